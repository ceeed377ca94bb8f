import type { Config, UpstreamConfig } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import { isStatic } from '../upstream/credentials/options.ts';
import { readCredential } from '../upstream/credentials/read.ts';
import { Turns } from '../waiting/turns.ts';
import { credentialOptions } from './upstream-options.ts';
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
    uses.push(...credentialFiles(upstream), ...certificateFiles(upstream, renew));
    await turns.next();
  }
  return uses;
}

/** Credentials are read each time they are sent: this only finds out whether they can be read. */
function credentialFiles({ name, auth, additionalAuth, urls }: UpstreamConfig): FileUse[] {
  const all = auth === undefined ? [] : [auth, ...additionalAuth];
  return all.flatMap((one, index): FileUse[] => {
    const options = credentialOptions(one);
    if (!isStatic(options) || options.kind === 'inline') return [];
    const { passwordFile, dockerConfig, passwordEnv = '' } = one;
    const place = index === 0 ? ['auth'] : ['additionalAuth', String(index - 1)];
    const files = named(['upstreams', name, ...place], { passwordFile, dockerConfig });
    return [
      {
        // The variable is part of it, since no file tells one from another.
        name: `credentials of ${name} ${index === 0 ? '' : `${index} `}${passwordEnv}`,
        files,
        code: 'credentials-missing',
        async take(texts) {
          for (const [key, text] of Object.entries(texts)) {
            if (text.trim() === '') throw new Error(`${key}: ${files[key]} is empty`);
          }
          const { env: environment } = process;
          for (const url of urls) {
            await readCredential(options, { upstream: name, host: new URL(url).host, environment });
          }
        },
      },
    ];
  });
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
