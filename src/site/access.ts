import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AccessControl } from '../access/access-control.ts';
import { BackOff } from '../access/back-off.ts';
import { BcryptThread } from '../access/bcrypt-thread.ts';
import { parseHtpasswd } from '../access/htpasswd.ts';
import { Identities } from '../access/identities.ts';
import { Passwords } from '../access/passwords.ts';
import { Tokens } from '../access/tokens.ts';
import type { Config } from '../config/config.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import type { FileUse } from './watched-files.ts';

/** Who may do what at a running mirror. */
export interface LiveAccess extends AsyncDisposable {
  readonly control: AccessControl;
  /** Watches the files of the configuration in effect. @throws Error in one sentence for what cannot be used */
  watch(): Promise<void>;
}

/** @param config read each time: it may be replaced while the mirror runs */
export async function openAccess(config: () => Config, { now, files }: Parts): Promise<LiveAccess> {
  const thread = new BcryptThread();
  const passwords = new Passwords({
    compare: (password, hash) => thread.compare(password, hash),
    backOff: new BackOff({ now }),
    now,
  });
  const tokens = new Tokens({ now });
  const control = new AccessControl({
    settings: () => config().auth,
    identities: new Identities({ passwords }),
    tokens,
  });
  const usesOf = async ({ auth, cluster, redis, cache }: Config): Promise<FileUse[]> => {
    if (auth?.htpasswdFile === undefined) passwords.replace(new Map());
    if (!auth) return [];
    const uses: FileUse[] = [];
    if (auth.htpasswdFile !== undefined) {
      const key = 'auth.htpasswdFile';
      uses.push({
        name: 'passwords of callers',
        files: { [key]: auth.htpasswdFile },
        code: 'file-refused',
        take: (texts) => passwords.replace(parseHtpasswd(texts[key] ?? '', key)),
      });
    }
    // Replicas accept the tokens of one another.
    if (redis && cluster.secretFile !== undefined) {
      uses.push({
        name: 'key of tokens',
        files: named(['cluster'], { secretFile: cluster.secretFile }),
        code: 'file-refused',
        take: (texts) => tokens.renew(Buffer.from(Object.values(texts).join('').trim())),
      });
    } else tokens.renew(await ownSecret(join(cache.dir, 'tokens.key')));
    return uses;
  };
  await files.takeAll('auth', await usesOf(config()));
  return {
    control,
    watch: async () => files.replace('auth', await usesOf(config())),
    [Symbol.asyncDispose]: () => thread[Symbol.asyncDispose](),
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
