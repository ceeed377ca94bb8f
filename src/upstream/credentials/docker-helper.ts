import { unavailable } from '../failures.ts';
import { isRecord, parseSecretJson } from './answers.ts';
import { type Credential, type CredentialContext, storedCredential } from './credential.ts';
import { ProgramError, runProgram } from './program.ts';
import type { Obtained } from './renewed.ts';

const timeoutMs = 15_000;
/** Helpers do not say how long a credential is valid: they are asked again after this time … */
const freshMs = 5 * 60_000;
/** … and while they fail, the last credential is used for this long. */
const usableMs = 3_600_000;

/** The output of a helper, with exit code 1, if it has nothing for the server (docker-credential-helpers). */
const notFound = 'credentials not found in native keychain';

/**
 * Asks `docker-credential-<helper> get` for the credentials of a server.
 * @param helper the name as `credHelpers` and `credsStore` have it
 * @throws RegistryError no-credentials, without anything that the program wrote
 */
export async function askHelper(
  helper: string,
  { serverUrl, context, now }: { readonly serverUrl: string; readonly context: CredentialContext; now: () => number },
): Promise<Obtained> {
  const { upstream, environment } = context;
  const program = `docker-credential-${helper}`;
  const failed = (clause: string) =>
    unavailable(upstream, `has its credentials in ${program}, which ${clause}`, { reason: 'no-credentials' });
  if (!isHelperName(helper)) {
    throw unavailable(upstream, 'has a credential helper whose name is not one', { reason: 'no-credentials' });
  }
  const askedAtMs = now();
  try {
    const { code, output } = await runProgram(program, { args: ['get'], input: serverUrl, environment, timeoutMs });
    // Where there is nothing, a login may follow.
    if (code !== 0 && output.trim() === notFound) {
      return { credential: undefined, expiresAtMs: askedAtMs + freshMs, renewAtMs: askedAtMs + 10_000 };
    }
    if (code !== 0) throw failed(`failed with exit code ${code}`);
    const credential = readAnswer(output);
    if (credential === undefined) throw failed('wrote no user name and secret');
    return { credential, expiresAtMs: askedAtMs + usableMs, renewAtMs: askedAtMs + freshMs };
  } catch (error) {
    throw error instanceof ProgramError ? failed(error.message) : error;
  }
}

/** Whether a name names a program, and no path. */
function isHelperName(name: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,99}$/i.test(name);
}

function readAnswer(output: string): Credential | undefined {
  try {
    const answer = parseSecretJson(output);
    if (!isRecord(answer)) return undefined;
    const { Username: username, Secret: secret } = answer;
    if (typeof username !== 'string' || typeof secret !== 'string' || secret === '') return undefined;
    return storedCredential(username, secret);
  } catch {
    return undefined;
  }
}
