import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';

/** Longest answer, in bytes, and longest wait for all of it, in milliseconds. */
const maxBytes = 1024 * 1024;
const answerMs = 5_000;

/** Asks for JSON, or sends some. @throws Error without an answer; nothing is followed */
export type FetchJson = (asked: {
  readonly url: URL;
  /** Sent as JSON by POST; absent: GET. */
  readonly body?: object;
}) => Promise<{ readonly status: number; readonly body: unknown }>;

/**
 * @param options `ca`: authorities (PEM) instead of the usual ones; `token`: a bearer token, read for each request
 */
export function jsonFetcher({
  ca,
  token,
}: {
  readonly ca?: string | undefined;
  readonly token?: (() => string) | undefined;
}): FetchJson {
  const agents = {
    http: new HttpAgent({ proxyEnv: process.env }),
    https: new HttpsAgent({ proxyEnv: process.env, ...(ca !== undefined && { ca }) }),
  };
  return async ({ url, body }) => {
    const text = body && JSON.stringify(body);
    const headers: Record<string, string> = { accept: 'application/json' };
    if (text !== undefined) headers['content-type'] = 'application/json';
    if (token) headers['authorization'] = `Bearer ${token()}`;
    const signal = AbortSignal.timeout(answerMs);
    const settings = { method: text === undefined ? 'GET' : 'POST', headers, signal };
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const sent =
      url.protocol === 'https:'
        ? httpsRequest(url, { ...settings, agent: agents.https }, resolve)
        : httpRequest(url, { ...settings, agent: agents.http }, resolve);
    sent.on('error', reject);
    sent.end(text);
    const response = await promise;
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of response as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > maxBytes) throw new Error(`${url.origin} answers with more than ${maxBytes} bytes`);
      pieces.push(piece);
    }
    return { status: response.statusCode ?? 0, body: parsed(Buffer.concat(pieces).toString('utf8')) };
  };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
