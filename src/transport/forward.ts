import { type ClientRequest, type Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { type Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { WireAnswer } from './exchange.ts';
import { ExchangeTimeoutError } from './headers-deadline.ts';

/** A request that is passed on as it arrives. */
export interface ForwardedRequest {
  readonly method: string;
  readonly url: URL;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  /** Sent at the pace of the receiver; its length is in the headers, or it is sent in chunks. Absent: no body. */
  readonly body?: AsyncIterable<Buffer> | undefined;
  readonly agent: HttpAgent | HttpsAgent;
  /** For a connection, in milliseconds. */
  readonly connectMs: number;
  /** From the end of the body to the headers of the answer, in milliseconds. */
  readonly answerMs: number;
  /** For the receiver to take more of the body, in milliseconds. */
  readonly idleMs: number;
  readonly signal: AbortSignal;
}

/**
 * Passes a request on. The answer may come before the body has been sent to its end: the rest is not sent then.
 * @throws ExchangeTimeoutError; what reading the body or Node throws; the signal's reason or an AbortError
 */
export async function forward(request: ForwardedRequest): Promise<WireAnswer> {
  const { method, url, headers, agent, signal } = request;
  signal.throwIfAborted();
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  const sent = send(url, { method, headers, agent, signal });
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  sent.once('response', resolve);
  // Stays for the lifetime of the request: nothing else may be listening when it fails.
  sent.on('error', reject);
  sent.once('close', () => reject(new Error('the connection was closed')));
  using timer = new Countdown(sent);
  try {
    timer.start(request.connectMs, 'no connection');
    sent.once('socket', (socket) => {
      const connected = (): void => timer.start(request.answerMs, 'no answer');
      if (socket.connecting) socket.once(url.protocol === 'https:' ? 'secureConnect' : 'connect', connected);
      else connected();
    });
    const sending = request.body ? pump(request.body, { sent, timer, ...request }) : sent.end();
    if (sending instanceof Promise) sending.catch(reject);
    const response = await promise;
    // The rest of a body that was refused is never sent.
    response.once('close', () => {
      if (!sent.writableEnded) sent.destroy();
    });
    const { statusCode: status = 0 } = response;
    return { status, headers: response.headers, stream: response, isComplete: () => response.complete };
  } catch (error) {
    sent.destroy();
    throw error;
  }
}

async function pump(
  body: AsyncIterable<Buffer>,
  { sent, timer, answerMs, idleMs }: ForwardedRequest & { readonly sent: ClientRequest; readonly timer: Countdown },
): Promise<void> {
  let isAnswered = false;
  let wake = (): void => undefined;
  sent.once('response', () => {
    isAnswered = true;
    wake();
  });
  for (const event of ['drain', 'close']) sent.on(event, () => wake());
  for await (const piece of body) {
    if (isAnswered || sent.destroyed) return;
    // As long as the sender takes its time, nothing is owed by the receiver.
    timer.stop();
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    if (sent.write(piece)) continue;
    timer.start(idleMs, 'nothing was taken');
    await promise;
  }
  if (isAnswered) return;
  timer.start(answerMs, 'no answer');
  sent.end();
}

/** Destroys a request when its time is over. */
class Countdown implements Disposable {
  readonly #sent: ClientRequest;
  #timer: NodeJS.Timeout | undefined;

  constructor(sent: ClientRequest) {
    this.#sent = sent;
  }

  start(ms: number, what: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#sent.destroy(new ExchangeTimeoutError(`${what} within ${ms} ms`)), ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
