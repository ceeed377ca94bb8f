import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AccessControl } from '../access/access-control.ts';
import { BackOff } from '../access/back-off.ts';
import { BcryptThread } from '../access/bcrypt-thread.ts';
import { type ExplainedAccess, explainAccess } from '../access/explain.ts';
import { parseHtpasswd } from '../access/htpasswd.ts';
import { Identities } from '../access/identities.ts';
import type { KeyStore } from '../access/key-store.ts';
import { Passwords } from '../access/passwords.ts';
import { Tokens } from '../access/tokens.ts';
import type { Config } from '../config/config.ts';
import type { GuestUpstreams } from '../http/rights.ts';
import { type Changes, callersFact } from '../oci/facts.ts';
import type { Cache } from './cache.ts';
import { CallerUpstreams } from './caller-upstreams.ts';
import { named } from './configured-files.ts';
import { LiveIssuers } from './issuers.ts';
import { keysFileOf } from './keys-file.ts';
import type { Parts } from './parts.ts';
import type { FileUse } from './watched-files.ts';

/** Who may do what at a running mirror. */
export interface LiveAccess extends AsyncDisposable {
  readonly control: AccessControl;
  readonly guests: GuestUpstreams;
  /** The decision of the policies about a caller, for `explain`. @throws RegistryError */
  readonly decide: (who: string, repository: string) => ExplainedAccess | undefined;
  /**
   * Reads the files of the configuration that is about to take effect, so that no caller is refused meanwhile.
   * @returns the keys of those that have changed and were taken
   */
  prepare(next: Config): Promise<readonly string[]>;
  /** Forgets what only the configuration before it knew. */
  settle(): void;
}

/** @param config read each time: it may be replaced while the mirror runs */
export async function openAccess(
  config: () => Config,
  {
    now,
    files,
    audit,
    cache,
    changes,
  }: Parts & { readonly cache: Pick<Cache, 'keys' | 'upstreams'>; readonly changes: Changes },
): Promise<LiveAccess> {
  const onChange = (): void => changes.changed(callersFact);
  const thread = new BcryptThread();
  const passwords = new Passwords({
    compare: (password, hash) => thread.compare(password, hash),
    backOff: new BackOff({ now }),
    onChange,
    now,
  });
  const tokens = new Tokens({ now, onChange });
  const { keys, upstreams } = cache;
  const issuers = new LiveIssuers({ auth: () => config().auth, onChange, now });
  const control = new AccessControl({
    settings: () => config().auth,
    identities: new Identities({ passwords, keys, issuers: () => issuers.all }),
    tokens,
    now,
    onRefused: audit,
    guestUpstream(name) {
      const slash = name.indexOf('/');
      const upstream = slash === -1 ? undefined : upstreams.table.find(name.slice(0, slash));
      return upstream && guests.judges(upstream.name) ? upstream.name : undefined;
    },
  });
  const guests = new CallerUpstreams({ config, upstreams, access: control, now });
  const usesOf = (current: Config) => accessFiles(current, { passwords, tokens, issuers, keys });
  await files.takeAll('auth', await usesOf(config()));
  return {
    control,
    guests,
    decide: (who, repository) => explainAccess(who, repository, { settings: config().auth, keys }),
    async prepare(next) {
      files.replace('auth', await usesOf(next));
      return await files.look();
    },
    settle() {
      if (config().auth?.htpasswdFile === undefined) passwords.replace(new Map());
    },
    async [Symbol.asyncDispose]() {
      guests[Symbol.dispose]();
      await thread[Symbol.asyncDispose]();
    },
  };
}

/** The files that decide who a caller is. A mirror that shares its token secret with no other makes one. */
async function accessFiles(
  current: Config,
  {
    passwords,
    tokens,
    issuers,
    keys,
  }: {
    readonly passwords: Passwords;
    readonly tokens: Tokens;
    readonly issuers: LiveIssuers;
    readonly keys: KeyStore;
  },
): Promise<FileUse[]> {
  const { auth, cluster, redis } = current;
  if (!auth) return [];
  const uses: FileUse[] = issuers.files(auth);
  keys.path = keysFileOf(current);
  uses.push(keysUse(keys, keysFileOf(current)));
  if (auth.htpasswdFile !== undefined) {
    const key = 'auth.htpasswdFile';
    uses.push({
      name: 'passwords of callers',
      files: { [key]: auth.htpasswdFile },
      code: 'file-refused',
      take: (texts) => passwords.replace(parseHtpasswd(texts[key] ?? '', key)),
    });
  }
  // Replicas accept each other's tokens.
  if (redis && cluster.secretFile !== undefined) {
    uses.push({
      name: 'key of tokens',
      files: named(['cluster'], { secretFile: cluster.secretFile }),
      code: 'file-refused',
      take: (texts) => tokens.renew(Buffer.from(Object.values(texts).join('').trim())),
    });
  } else tokens.renew(await ownSecret(join(current.cache.dir, 'tokens.key')));
  return uses;
}

/** A missing file is no error: no key has been created yet. */
function keysUse(keys: KeyStore, path: string): FileUse {
  return {
    name: 'keys of robots',
    files: {},
    looksAt: [path],
    code: 'file-refused',
    take: () => keys.load(),
  };
}

/** The secret of a mirror that shares it with no other, kept so that a restart voids no token; made where there is none. */
async function ownSecret(path: string): Promise<Buffer> {
  try {
    const secret = await readFile(path);
    if (secret.length >= 32) return secret;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const secret = randomBytes(32);
  const temporary = `${path}.new`;
  await mkdir(dirname(path), { recursive: true });
  {
    await using handle = await open(temporary, 'w', 0o600);
    await handle.writeFile(secret);
    await handle.sync();
  }
  await rename(temporary, path);
  return secret;
}
