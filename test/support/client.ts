import { createHash } from 'node:crypto';
import { Agent, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';

export interface GetOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly signal?: AbortSignal;
  /** Reads no faster than this. */
  readonly bytesPerSecond?: number;
  /** Closes the connection as soon as so many bytes of the body have come. */
  readonly leaveAfterBytes?: number;
  /** False: counts and hashes the body without keeping it (default true). */
  readonly keepBody?: boolean;
  /** False: the bytes are counted alone, and the digests are those of nothing (default true). */
  readonly hash?: boolean;
  /** A certificate authority, for https. */
  readonly ca?: string | Buffer;
  /** A certificate of this client's own, and its key, for https. */
  readonly cert?: string;
  readonly key?: string;
  /** Called with the count so far, as bytes of the body come. */
  readonly onBytes?: (received: number) => void;
  readonly unixSocket?: string;
  /** Keeps connections open between requests; absent: each request has its own. Plain HTTP only. */
  readonly agent?: Agent;
}

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The exact header lines as name, value, name, value… */
  readonly rawHeaders: readonly string[];
  /** Empty with `keepBody: false`. */
  readonly body: Buffer;
  readonly receivedBytes: number;
  readonly sha256: string;
  readonly sha512: string;
  /** Whether the body arrived whole, by `Content-Length` or the last chunk. */
  readonly complete: boolean;
  readonly firstByteMs: number | undefined;
  readonly totalMs: number;
}

/**
 * One request on a connection of its own; nothing is followed, decoded or retried.
 * @returns also when the body was cut: `complete` is false then
 * @throws when no headers came, or at the signal
 */
export async function get(url: string | URL, options: GetOptions = {}): Promise<Reply> {
  const startedMs = performance.now();
  const response = await open(url, options);
  const sha256 = createHash('sha256');
  const sha512 = createHash('sha512');
  const chunks: Buffer[] = [];
  let receivedBytes = 0;
  let firstByteMs: number | undefined;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      firstByteMs ??= performance.now() - startedMs;
      if (options.hash !== false) {
        sha256.update(chunk);
        sha512.update(chunk);
      }
      receivedBytes += chunk.length;
      if (options.keepBody !== false) chunks.push(chunk);
      options.onBytes?.(receivedBytes);
      if (receivedBytes >= (options.leaveAfterBytes ?? Number.POSITIVE_INFINITY)) break;
      if (options.bytesPerSecond !== undefined) {
        const dueMs = startedMs + (receivedBytes / options.bytesPerSecond) * 1000;
        const waitMs = dueMs - performance.now();
        if (waitMs > 0) await delay(waitMs, undefined, { signal: options.signal });
      }
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error;
  } finally {
    response.destroy();
  }
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    body: Buffer.concat(chunks),
    receivedBytes,
    sha256: `sha256:${sha256.digest('hex')}`,
    sha512: `sha512:${sha512.digest('hex')}`,
    complete: response.complete,
    firstByteMs,
    totalMs: performance.now() - startedMs,
  };
}

/** The headers alone of an answer to HEAD. */
export async function head(url: string | URL, options: GetOptions = {}): Promise<Reply> {
  return get(url, { ...options, method: 'HEAD' });
}

/** The answer's JSON, taken to be what the test says it is. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- the caller names the shape
export function json<T = unknown>(reply: Reply): T {
  return JSON.parse(reply.body.toString()) as T;
}

/** Sends a request and gives the response as soon as its headers are here; the caller reads or destroys it. */
export async function open(url: string | URL, options: GetOptions = {}): Promise<IncomingMessage> {
  const target = new URL(url);
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const settings = {
    method: options.method ?? 'GET',
    headers: { ...options.headers } as Record<string, string | string[]>,
    signal: options.signal,
    ca: options.ca,
    cert: options.cert,
    key: options.key,
    agent: target.protocol === 'https:' ? false : ((options.agent ?? new Agent({ keepAlive: false })) as Agent | false),
    ...(options.unixSocket === undefined ? {} : { socketPath: options.unixSocket }),
  };
  const request =
    target.protocol === 'https:' ? tlsRequest(target, { ...settings, agent: false }) : httpRequest(target, settings);
  request.on('response', resolve);
  request.on('error', reject);
  request.end();
  return promise;
}
