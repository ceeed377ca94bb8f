import type { ConfigPath } from './schema-node.ts';
import type { ParsedAuth } from './upstream-auth-schema.ts';

/** Reports a problem at one place of the configuration. */
export type Refuse = (path: ConfigPath, message: string) => void;

type Provider = NonNullable<ParsedAuth['provider']>;

/** The places that a password can come from; a user name needs one of them. */
const passwords = ['password', 'passwordFile', 'passwordEnv'] as const;
/** The places that a whole credential comes from. */
const wholes = ['dockerConfig', 'helper', 'kubeletProvider'] as const;

/** The keys of a provider: whether it has a password, and keys of its own. */
const providers: Readonly<
  Record<Provider, { readonly password: 'required' | 'optional' | 'none'; own: readonly string[] }>
> = {
  ecr: { password: 'optional', own: ['region'] },
  'ecr-public': { password: 'optional', own: [] },
  google: { password: 'none', own: ['credentialsFile'] },
  acr: { password: 'none', own: ['clientId', 'tenantId'] },
  github: { password: 'required', own: [] },
  gitlab: { password: 'required', own: [] },
};
const ownKeys = ['region', 'credentialsFile', 'clientId', 'tenantId'] as const;

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
  const { provider } = auth;
  const password = passwords.filter((key) => auth[key] !== undefined);
  const whole = wholes.filter((key) => auth[key] !== undefined);
  const sources = [...password, ...whole];
  const own = provider === undefined ? [] : providers[provider].own;
  for (const key of ownKeys) {
    if (auth[key] === undefined || own.includes(key)) continue;
    const owners = Object.entries(providers).filter(([, facts]) => facts.own.includes(key));
    refuse([...path, key], `requires provider: ${owners.map(([name]) => name).join(' or ')}`);
  }
  if (auth.kubeletArgs !== undefined && auth.kubeletProvider === undefined) {
    refuse([...path, 'kubeletArgs'], 'requires kubeletProvider, which is missing');
  }
  if (provider !== undefined) checkProvider(provider, { auth, password, whole, path }, refuse);
  else if (sources.length !== 1) {
    refuse(path, `accepted: exactly one of ${[...passwords, ...wholes].join(', ')}, or a provider`);
  } else if (whole.length === 1 && auth.username !== undefined) {
    refuse([...path, 'username'], `cannot be combined with ${whole[0]}, which has its own`);
  } else if (whole.length === 0 && auth.username === undefined) {
    refuse([...path, 'username'], 'is missing');
  }
}

function checkProvider(
  provider: Provider,
  found: { auth: ParsedAuth; password: readonly string[]; whole: readonly string[]; path: ConfigPath },
  refuse: Refuse,
): void {
  const { auth, password, whole, path } = found;
  const accepted = providers[provider].password;
  if (whole.length > 0) refuse([...path, whole[0]!], `cannot be combined with provider: ${provider}`);
  else if (accepted === 'none' && (password.length > 0 || auth.username !== undefined)) {
    refuse(
      [...path, password[0] ?? 'username'],
      `cannot be combined with provider: ${provider}, which obtains its own`,
    );
  } else if (password.length > 1 || (accepted === 'required' && password.length === 0)) {
    refuse(path, `accepted with provider: ${provider}: exactly one of ${passwords.join(', ')}`);
  } else if (accepted === 'optional' && (password.length === 0) !== (auth.username === undefined)) {
    refuse(
      path,
      `accepted with provider: ${provider}: an access key as username and one of ${passwords.join(', ')}, or neither`,
    );
  }
}
