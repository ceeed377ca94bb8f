import { createHash } from 'node:crypto';
import type { Authorization } from './authorization.ts';
import { anonymousCaller, userCaller } from './caller.ts';
import type { Identity, Proof } from './identity.ts';
import type { Passwords } from './passwords.ts';

/** Where a request comes from. */
export interface Origin {
  readonly address: string;
  /** What counts as one client, for the back-off. */
  readonly client: string;
}

export interface IdentitiesOptions {
  readonly passwords: Passwords;
}

/** Finds out by credentials who a caller is, and whether one that was found out is still that. */
export class Identities {
  readonly #options: IdentitiesOptions;

  constructor(options: IdentitiesOptions) {
    this.#options = options;
  }

  /**
   * Who shows these credentials; none: an anonymous caller.
   * @returns `undefined` where they are wrong
   * @throws RegistryError 429 where the client has to wait before it may try again
   */
  async find(shown: Authorization | undefined, { address, client }: Origin): Promise<Identity | undefined> {
    if (shown === undefined) return { caller: anonymousCaller(address), proof: { by: 'nothing' } };
    if (shown.scheme !== 'basic') return undefined;
    const { passwords } = this.#options;
    const { user, password } = shown;
    if (!(await passwords.isRight(user, password, client))) return undefined;
    return { caller: userCaller(user, address), proof: { by: 'password', mark: this.#passwordMark(user) ?? '' } };
  }

  /** Whether what a caller has shown would be accepted again. */
  isStill(name: string, proof: Proof): boolean {
    switch (proof.by) {
      case 'password':
        return this.#passwordMark(name) === proof.mark;
      case 'nothing':
      case 'certificate':
        return true;
      case 'key':
      case 'issuer':
        return false;
      default:
        return proof satisfies never;
    }
  }

  /** Changes with the password of a user, and tells nothing of its hash. */
  #passwordMark(user: string): string | undefined {
    const hash = this.#options.passwords.mark(user);
    return hash && createHash('sha256').update(`mark ${hash}`).digest('base64url').slice(0, 16);
  }
}
