import { createSecureContext } from 'node:tls';
import type { Config } from '../config/config.ts';
import type { ServerTls } from '../http/server.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import type { FileTexts } from './watched-files.ts';

/** The certificates of this mirror, as their files hold them now. */
export interface LiveServerTls {
  readonly current: ServerTls;
  /** Called with what the files hold from then on, each time that changes. */
  onRenewed(take: (tls: ServerTls) => void): void;
}

/**
 * Reads the certificates of this mirror and watches their files.
 * @returns `undefined` where it serves plain HTTP
 * @throws Error in one sentence where they cannot be read or do not fit together
 */
export async function openServerTls({ tls }: Config, { files }: Parts): Promise<LiveServerTls | undefined> {
  if (!tls) return undefined;
  let current: ServerTls | undefined;
  const takers: ((tls: ServerTls) => void)[] = [];
  await files.take('tls', {
    name: 'server',
    files: named(['tls'], { certFile: tls.certFile, keyFile: tls.keyFile, clientCaFile: tls.clientCaFile }),
    code: 'file-refused',
    take(texts) {
      const wanted = serverTls(texts, tls);
      for (const take of takers) take(wanted);
      current = wanted;
    },
  });
  return {
    get current() {
      return current!;
    },
    onRenewed: (take) => void takers.push(take),
  };
}

/** @throws Error in one sentence */
function serverTls(texts: FileTexts, { minVersion, clientCertificates }: NonNullable<Config['tls']>): ServerTls {
  const tls = {
    cert: texts['tls.certFile'] ?? '',
    key: texts['tls.keyFile'] ?? '',
    ca: texts['tls.clientCaFile'],
    minVersion,
    requiresCertificate: clientCertificates === 'required',
  };
  try {
    createSecureContext(tls);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`tls: the certificate, its key and the authorities of clients cannot be used: ${reason}`, {
      cause: error,
    });
  }
  return tls;
}
