import type { Config, UpstreamConfig } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import { readCredential } from '../upstream/credentials.ts';
import { Turns } from '../waiting/turns.ts';
import { upstreamOptions } from './upstream-options.ts';
import type { FileTexts, FileUse } from './watched-files.ts';

/**
 * The files of the upstreams, to be watched.
 * @param options.renew applies the current content of an upstream's certificates. @throws Error in one sentence if
 *   they cannot be used
 */
export async function upstreamFiles(
  config: Config,
  { renew }: { readonly renew: (name: string) => Promise<void> },
): Promise<FileUse[]> {
  const uses: FileUse[] = [];
  const turns = new Turns();
  for (const upstream of config.offline ? [] : config.upstreams) {
    uses.push(...credentialFiles(config, upstream), ...certificateFiles(upstream, renew));
    await turns.next();
  }
  return uses;
}

/** Credentials are read each time they are shown: here it is only found out whether they can be. */
function credentialFiles(config: Config, upstream: UpstreamConfig): FileUse[] {
  const { name, auth, urls } = upstream;
  if (!auth || auth.password) return [];
  const { credentials } = upstreamOptions(config, upstream);
  const { passwordFile, dockerConfig } = auth;
  const files = named(['upstreams', name, 'auth'], { passwordFile, dockerConfig });
  return [
    {
      // The variable is part of it, since no file tells one from another.
      name: `credentials of ${name} ${auth.passwordEnv ?? ''}`,
      files,
      code: 'credentials-missing',
      async take(texts) {
        for (const [key, text] of Object.entries(texts)) {
          if (text.trim() === '') throw new Error(`${key}: ${files[key]} is empty`);
        }
        const { env: environment } = process;
        for (const url of urls) {
          await readCredential(credentials, { upstream: name, host: new URL(url).host, environment });
        }
      },
    },
  ];
}

function certificateFiles({ name, tls }: UpstreamConfig, renew: (name: string) => Promise<void>): FileUse[] {
  const { caFile, certFile, keyFile } = tls;
  const files = named(['upstreams', name, 'tls'], { caFile, certFile, keyFile });
  if (Object.keys(files).length === 0) return [];
  return [{ name: `certificates of ${name}`, files, code: 'file-refused', take: () => renew(name) }];
}

/** Paths by the full name of their key; what is absent is left out. */
export function named(around: readonly string[], files: Readonly<Record<string, string | undefined>>): FileTexts {
  return Object.fromEntries(
    Object.entries(files).flatMap(([key, file]) => (file === undefined ? [] : [[formatPath([...around, key]), file]])),
  );
}
