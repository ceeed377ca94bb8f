import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { RelayedSocket } from '../front/relayed-socket.ts';

const hostForm = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/;

/**
 * The address of the token service as the client reaches this mirror: clients accept it only with the scheme, the host and
 * the port that they use themselves. What a proxy in front says of them goes first; it can mislead only the client that sent it.
 * @param url where the configuration says that clients reach this mirror
 */
export function realmOf({ headers, socket }: IncomingMessage, url: string | undefined): string {
  if (url !== undefined) return `${url}/token`;
  const scheme = firstOf(headers['x-forwarded-proto']);
  const isEncrypted = socket instanceof TLSSocket || socket instanceof RelayedSocket;
  const isTls = scheme === undefined ? isEncrypted : scheme.toLowerCase() === 'https';
  const hosts = [firstOf(headers['x-forwarded-host']), headers.host, `${socket.localAddress}:${socket.localPort}`];
  const host = hosts.find((one) => one !== undefined && one.length <= 300 && hostForm.test(one)) ?? 'localhost';
  return `${isTls ? 'https' : 'http'}://${host}/token`;
}

function firstOf(header: string | string[] | undefined): string | undefined {
  const [first = ''] = String(header ?? '').split(',', 1);
  return first.trim() === '' ? undefined : first.trim();
}
