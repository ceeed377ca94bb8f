import { once } from 'node:events';
import { connect, isIP, type Socket } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Longest silence of a SOCKS proxy while a connection is made, in milliseconds. */
const handshakeMs = 10_000;

const noUser = 0;
const password = 2;

/**
 * Connects to a host through a SOCKS 5 proxy (RFC 1928; user and password by RFC 1929). The proxy resolves names.
 * @throws Error of the connection, or with the code ERR_PROXY_SOCKS where the proxy refuses
 */
export async function socksConnect(
  proxy: URL,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<Socket> {
  const socket = connect({ host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port || 1080) });
  socket.setTimeout(handshakeMs, () => socket.destroy(refused('does not answer')));
  try {
    await once(socket, 'connect');
    const hasUser = proxy.username !== '';
    socket.write(Buffer.from(hasUser ? [5, 2, noUser, password] : [5, 1, noUser]));
    const [version, method] = await read(socket, 2);
    if (version !== 5) throw refused('does not speak SOCKS 5');
    if (method === password && hasUser) await logIn(socket, proxy);
    else if (method !== noUser) throw refused('wants another way to log in');
    socket.write(Buffer.concat([Buffer.from([5, 1, 0]), addressBytes(host), Buffer.from([port >> 8, port & 0xff])]));
    const [, status, , kind] = await read(socket, 4);
    if (status !== 0) throw refused(`refuses the connection (${status})`);
    // The bound address is of no interest, but has to be read.
    const length = kind === 1 ? 4 : kind === 4 ? 16 : ((await read(socket, 1))[0] ?? 0);
    await read(socket, length + 2);
    socket.setTimeout(0);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function logIn(socket: Socket, { username, password: secret }: URL): Promise<void> {
  const parts = [username, secret].map((text) => Buffer.from(decodeURIComponent(text), 'utf8').subarray(0, 255));
  socket.write(Buffer.concat([Buffer.from([1]), ...parts.flatMap((part) => [Buffer.from([part.length]), part])]));
  const [, status] = await read(socket, 2);
  if (status !== 0) throw refused('refuses the user or the password');
}

function addressBytes(host: string): Buffer {
  if (isIP(host) === 0) {
    const name = Buffer.from(host, 'latin1').subarray(0, 255);
    return Buffer.concat([Buffer.from([3, name.length]), name]);
  }
  return Buffer.from([isIP(host) === 4 ? 1 : 4, ...ipaddr.parse(host).toByteArray()]);
}

async function read(socket: Socket, bytes: number): Promise<Buffer> {
  for (;;) {
    const chunk = socket.read(bytes) as Buffer | null;
    if (chunk !== null && chunk.length === bytes) return chunk;
    if (socket.readableEnded || socket.destroyed) throw refused('closes the connection');
    const ended = new AbortController();
    try {
      await Promise.race([
        once(socket, 'readable', { signal: ended.signal }),
        once(socket, 'end', { signal: ended.signal }),
        once(socket, 'close', { signal: ended.signal }),
      ]);
    } finally {
      ended.abort();
    }
  }
}

function refused(what: string): Error {
  return Object.assign(new Error(`the SOCKS proxy ${what}`), { code: 'ERR_PROXY_SOCKS' });
}
