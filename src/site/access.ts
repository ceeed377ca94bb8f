import { AccessControl } from '../access/access-control.ts';
import { BackOff } from '../access/back-off.ts';
import { BcryptThread } from '../access/bcrypt-thread.ts';
import { parseHtpasswd } from '../access/htpasswd.ts';
import { Passwords } from '../access/passwords.ts';
import type { Config } from '../config/config.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import type { FileUse } from './watched-files.ts';

/** Who may do what at a running mirror. */
export interface LiveAccess extends AsyncDisposable {
  readonly control: AccessControl;
  /** The files of a configuration, to be watched. */
  files(config: Config): FileUse[];
}

/** @param config read each time: it may be replaced while the mirror runs */
export async function openAccess(config: () => Config, { now, files }: Parts): Promise<LiveAccess> {
  const thread = new BcryptThread();
  const passwords = new Passwords({
    compare: (password, hash) => thread.compare(password, hash),
    backOff: new BackOff({ now }),
    now,
  });
  const control = new AccessControl({ settings: () => config().auth, passwords });
  const usesOf = ({ auth }: Config): FileUse[] => {
    if (auth?.htpasswdFile === undefined) {
      passwords.replace(new Map());
      return [];
    }
    const { htpasswdFile } = auth;
    const key = 'auth.htpasswdFile';
    return [
      {
        name: 'passwords of callers',
        files: named(['auth'], { htpasswdFile }),
        code: 'file-refused',
        take: (texts) => passwords.replace(parseHtpasswd(texts[key] ?? '', key)),
      },
    ];
  };
  for (const use of usesOf(config())) await files.take('auth', use);
  return {
    control,
    files: usesOf,
    [Symbol.asyncDispose]: () => thread[Symbol.asyncDispose](),
  };
}
