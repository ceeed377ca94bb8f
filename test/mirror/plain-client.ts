import { connect } from 'node:net';

/** A client without an HTTP library, so that a hundred of them are no load: compares a body with what it should be. */
export interface PlainClient {
  /** Lower-case header names; settles when the headers are here, and reads no further until told. */
  readonly headers: Promise<Readonly<Record<string, string>>>;
  /**
   * Reads on to the end, or leaves after so many bytes.
   * @returns the number of bytes that came
   * @throws Error at the first wrong byte, and where the connection ends before `Content-Length`
   */
  read(options?: { readonly leaveAt?: number }): Promise<number>;
}

/** Asks for a path, in one connection with little in flight while nothing is read. */
export function plainGet(url: string, content: Buffer): PlainClient {
  const { hostname, port, pathname, host } = new URL(url);
  const headers = Promise.withResolvers<Readonly<Record<string, string>>>();
  const done = Promise.withResolvers<number>();
  done.promise.catch(() => undefined);
  let head = '';
  let leaveAt: number | undefined;
  let received = -1;
  const early: Buffer[] = [];
  const socket = connect({
    host: hostname,
    port: Number(port),
    onread: {
      buffer: Buffer.allocUnsafe(256 * 1024),
      callback: (count, buffer) => take(Buffer.from(buffer.buffer, 0, count)),
    },
  });
  socket.on('error', done.reject);
  socket.on('close', () => done.reject(new Error(`cut after ${received} bytes`)));
  socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);

  function take(chunk: Buffer): boolean {
    if (received >= 0) return check(chunk);
    head += chunk.toString('latin1');
    const end = head.indexOf('\r\n\r\n');
    if (end === -1) return true;
    received = 0;
    early.push(Buffer.from(head.slice(end + 4), 'latin1'));
    const lines = head.slice(0, end).split('\r\n').slice(1);
    headers.resolve(Object.fromEntries(lines.map((line) => line.toLowerCase().split(/:\s*/, 2))));
    return false;
  }

  function check(chunk: Buffer): boolean {
    const isRight = chunk.equals(content.subarray(received, received + chunk.length));
    received += chunk.length;
    if (isRight && received < Math.min(leaveAt ?? content.length, content.length)) return true;
    if (isRight) done.resolve(received);
    else done.reject(new Error(`a wrong byte before ${received}`));
    socket.destroy();
    return false;
  }

  return {
    headers: headers.promise,
    read(options = {}) {
      leaveAt = options.leaveAt;
      for (const chunk of early.splice(0)) check(chunk);
      socket.resume();
      return done.promise;
    },
  };
}
