import { createSecureContext } from 'node:tls';
import type { Config } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
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
 * Reads the certificates of a listener and watches their files.
 * @param options `around`: the key of the configuration that they stand under
 * @returns `undefined` where it serves plain HTTP
 * @throws Error in one sentence where they cannot be read or do not fit together
 */
export async function openServerTls(
  tls: Config['tls'],
  { files, around = ['tls'] }: Pick<Parts, 'files'> & { readonly around?: readonly string[] },
): Promise<LiveServerTls | undefined> {
  if (!tls) return undefined;
  let current: ServerTls | undefined;
  const takers: ((tls: ServerTls) => void)[] = [];
  await files.take(around.join('.'), {
    name: 'server',
    files: named(around, { certFile: tls.certFile, keyFile: tls.keyFile, clientCaFile: tls.clientCaFile }),
    code: 'file-refused',
    take(texts) {
      const wanted = serverTls(byName(texts), { ...tls, place: formatPath(around) });
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
function serverTls(
  texts: FileTexts,
  { minVersion, clientCertificates, place }: NonNullable<Config['tls']> & { readonly place: string },
): ServerTls {
  const tls = {
    cert: texts['certFile'] ?? '',
    key: texts['keyFile'] ?? '',
    ca: texts['clientCaFile'],
    minVersion,
    requiresCertificate: clientCertificates === 'required',
  };
  try {
    createSecureContext(tls);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`${place}: the certificate, its key and the authorities of clients cannot be used: ${reason}`, {
      cause: error,
    });
  }
  return tls;
}

/** Texts by the last part of their key. */
function byName(texts: FileTexts): FileTexts {
  return Object.fromEntries(Object.entries(texts).map(([key, text]) => [key.slice(key.lastIndexOf('.') + 1), text]));
}

/** The certificates of the listener of clients, and of the listener of replicas. */
export type Tls = Readonly<Record<'clients' | 'peers', LiveServerTls | undefined>>;

/** Reads the certificates of both listeners; replicas show those of the clients unless they have their own. */
export async function openTls({ tls, listeners: { peers } }: Config, parts: Parts): Promise<Tls> {
  const clients = await openServerTls(tls, parts);
  if (!peers) return { clients, peers: clients };
  return { clients, peers: await openServerTls(peers.tls, { ...parts, around: ['listeners', 'peers', 'tls'] }) };
}
