import type { ConfigPath } from './schema-node.ts';
import type { ParsedAuth } from './upstream-auth-schema.ts';

/** What is wrong with one place of the configuration. */
export type Refuse = (path: ConfigPath, message: string) => void;

/** The places that a password can come from; a user name goes with one of them. */
const passwords = ['password', 'passwordFile', 'passwordEnv'] as const;
/** The places that a whole credential comes from. */
const wholes = ['dockerConfig', 'helper'] as const;

/** Checks the credentials of an upstream, each for itself. */
export function checkAuths(
  { auth, additionalAuth }: { readonly auth?: ParsedAuth | undefined; readonly additionalAuth: readonly ParsedAuth[] },
  path: ConfigPath,
  refuse: Refuse,
): void {
  if (auth) checkAuth(auth, [...path, 'auth'], refuse);
  else if (additionalAuth.length > 0) refuse([...path, 'additionalAuth'], 'requires auth, which is missing');
  for (const [index, one] of additionalAuth.entries()) checkAuth(one, [...path, 'additionalAuth', index], refuse);
}

function checkAuth(auth: ParsedAuth, path: ConfigPath, refuse: Refuse): void {
  const sources = [...passwords, ...wholes].filter((key) => auth[key] !== undefined);
  const whole = wholes.find((key) => auth[key] !== undefined);
  if (sources.length !== 1) {
    refuse(path, `accepted: exactly one of ${[...passwords, ...wholes].join(', ')}`);
  } else if (whole !== undefined && auth.username !== undefined) {
    refuse([...path, 'username'], `does not go with ${whole}, which has its own`);
  } else if (whole === undefined && auth.username === undefined) {
    refuse([...path, 'username'], 'is missing');
  }
}
