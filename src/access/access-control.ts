import { LRUCache } from 'lru-cache';
import { RegistryError } from '../oci/error.ts';
import { parseAuthorization } from './authorization.ts';
import { type Access, type Action, anonymousCaller, type Caller, userCaller } from './caller.ts';
import type { Passwords } from './passwords.ts';
import { type Decision, Policies, type PolicyRule } from './policies.ts';

/** What is configured about callers. */
export interface AccessSettings {
  readonly anonymous: boolean;
  readonly policies: readonly PolicyRule[];
}

/** What a request shows of its caller. */
export interface Presented {
  /** The `Authorization` header. */
  readonly authorization: string | undefined;
  readonly address: string;
  /** What counts as one client, for the back-off. */
  readonly client: string;
}

export interface AccessControlOptions {
  /** Read each time; `undefined`: callers are not distinguished. */
  readonly settings: () => AccessSettings | undefined;
  readonly passwords: Passwords;
}

/** Finds out who asks, and what the policies say to it. */
export class AccessControl implements Access {
  readonly #options: AccessControlOptions;
  /** Rules of the settings in effect, compiled once. */
  #compiled: { readonly from: AccessSettings; readonly policies: Policies } | undefined;
  readonly #callers = new LRUCache<string, Caller>({ max: 10_000 });

  constructor(options: AccessControlOptions) {
    this.#options = options;
  }

  /** Whether callers are distinguished at all. */
  get isOn(): boolean {
    return this.#options.settings() !== undefined;
  }

  /**
   * Who asks. Credentials that are wrong are never taken for none.
   * @throws RegistryError 401 where what was shown is wrong, 429 where the client has to wait before it may try again
   */
  async identify(presented: Presented): Promise<Caller> {
    const shown = parseAuthorization(presented.authorization);
    if (shown === undefined)
      return this.#caller(`anonymous ${presented.address}`, () => anonymousCaller(presented.address));
    if (shown.scheme === 'basic') {
      const { user, password } = shown;
      if (await this.#options.passwords.isRight(user, password, presented.client)) {
        return this.#caller(`user ${presented.address} ${user}`, () => userCaller(user, presented.address));
      }
    }
    throw new RegistryError('unauthenticated', 'the credentials are wrong or have expired');
  }

  may(caller: Caller | undefined, action: Action, repository: string | undefined): boolean {
    return caller === undefined || this.decide(caller, action, repository).isAllowed;
  }

  /** Whether a caller may do something, and which rule says so. */
  decide(caller: Caller, action: Action, repository: string | undefined): Decision {
    return this.#policies()?.decide(caller, action, repository) ?? { isAllowed: true, rule: 'auth is not configured' };
  }

  #policies(): Policies | undefined {
    const settings = this.#options.settings();
    if (settings === undefined) return undefined;
    if (this.#compiled?.from !== settings) this.#compiled = { from: settings, policies: new Policies(settings) };
    return this.#compiled.policies;
  }

  /** One object for one identity: what was decided for it is remembered with it. */
  #caller(key: string, make: () => Caller): Caller {
    let caller = this.#callers.get(key);
    if (caller === undefined) this.#callers.set(key, (caller = make()));
    return caller;
  }
}
