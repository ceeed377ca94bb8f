import { readFile, rename, writeFile } from 'node:fs/promises';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import type { Report } from '../oci/report.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import { forward } from '../transport/forward.ts';
import { cloudEvent, type EventKind, eventId, type LoggedEvent } from './event.ts';
import type { EventLog } from './event-log.ts';
import { webhookHeaders } from './signature.ts';

/** The first wait after a failure, and the longest, in milliseconds. */
const firstRetryMs = 1_000;
const longestRetryMs = 5 * 60_000;
/** How long a delivery may take in all, in milliseconds, and how much of an answer is read, in bytes. */
const deliveryMs = 30_000;
const maxAnswerBytes = 64 * 1024;
/** Events that are read at a time. */
const batch = 100;

export interface WebhookOptions {
  readonly url: string;
  /** Read for each delivery. */
  readonly secret: () => Buffer;
  /** Empty: all. */
  readonly kinds: readonly EventKind[];
  /** Whether events of a repository are wanted. */
  readonly wants: (repository: string) => boolean;
  /** How long an event is tried, in milliseconds. */
  readonly retryForMs: number;
  /** The file that says how far the receiver has got. */
  readonly position: string;
  readonly log: EventLog;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Waits; default: by the system's timer. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly report: Report<WebhookEvent>;
}

/** The events of deliveries. */
export type WebhookEvent =
  | { readonly kind: 'delivered'; readonly url: string; readonly attempts: number }
  /** The receiver did not take an event; it is tried again in so many milliseconds. */
  | {
      readonly kind: 'failed';
      readonly url: string;
      readonly reason: string;
      readonly attempts: number;
      readonly retryMs: number;
    }
  /** Events that the receiver will not get: tried for too long, or gone from the log. */
  | { readonly kind: 'dropped'; readonly url: string; readonly events: number; readonly reason: string };

/** Sends events to one receiver, one after the other, in order, at least once. How far it has got outlives the process. */
export class Webhook implements AsyncDisposable {
  readonly #options: WebhookOptions;
  readonly #stopping = new AbortController();
  readonly #agent: HttpAgent | HttpsAgent;
  readonly #running: Promise<void>;

  constructor(options: WebhookOptions) {
    this.#options = options;
    const agents = { keepAlive: true, maxSockets: 1 };
    this.#agent = options.url.startsWith('https:') ? new HttpsAgent(agents) : new HttpAgent(agents);
    this.#running = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#agent.destroy();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { log } = this.#options;
    let position = await this.#readPosition();
    while (!signal.aborted) {
      try {
        const events = await log.after(position, batch);
        if (events.length === 0) {
          await log.news(position, signal);
          continue;
        }
        this.#noteGap(position, events[0]!.number);
        for (const event of events) {
          if (this.#isWanted(event)) await this.#deliver(event);
          if (signal.aborted) return;
          position = event.number;
        }
        await this.#writePosition(position);
      } catch (error) {
        if (signal.aborted) return;
        const failed = { url: this.#shown, reason: String(error), attempts: 0, retryMs: longestRetryMs };
        this.#options.report({ kind: 'failed', ...failed });
        await this.#wait(longestRetryMs);
      }
    }
  }

  #isWanted({ kind, repository }: LoggedEvent): boolean {
    const { kinds, wants } = this.#options;
    return (kinds.length === 0 || kinds.includes(kind)) && (repository === undefined || wants(repository));
  }

  #noteGap(position: number, next: number): void {
    const events = next - position - 1;
    if (events <= 0) return;
    this.#options.report({ kind: 'dropped', url: this.#shown, events, reason: 'gone from the log' });
  }

  /** Tries until the receiver has taken the event, or time is over. */
  async #deliver(event: LoggedEvent): Promise<void> {
    const { now, retryForMs, report, log } = this.#options;
    const { signal } = this.#stopping;
    const url = this.#shown;
    for (let attempts = 1; !signal.aborted; attempts += 1) {
      const failure = await this.#send(event);
      if (failure === undefined) {
        await this.#writePosition(event.number);
        report({ kind: 'delivered', url, attempts });
        return;
      }
      const { reason, afterMs = 0 } = failure;
      const backOffMs = Math.min(longestRetryMs, firstRetryMs * 2 ** Math.min(attempts - 1, 20));
      const retryMs = Math.min(Math.max(afterMs, backOffMs), longestRetryMs);
      if (now() + retryMs > event.atMs + retryForMs) {
        report({ kind: 'dropped', url, events: 1, reason: `${eventId(log.id, event.number)}: ${reason}` });
        return;
      }
      if (signal.aborted) return;
      report({ kind: 'failed', url, reason, attempts, retryMs });
      await this.#wait(retryMs);
    }
  }

  async #send(event: LoggedEvent): Promise<{ readonly reason: string; readonly afterMs?: number } | undefined> {
    const { url, secret, log, now } = this.#options;
    const signal = AbortSignal.any([this.#stopping.signal, AbortSignal.timeout(deliveryMs)]);
    const body = JSON.stringify(cloudEvent(event, log.id));
    const id = eventId(log.id, event.number);
    const headers = {
      'content-type': 'application/cloudevents+json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      'user-agent': 'millpond',
      ...webhookHeaders({ id, atMs: now(), body }, secret()),
    };
    try {
      const answer = await forward({
        method: 'POST',
        url: new URL(url),
        headers,
        body: once(Buffer.from(body)),
        agent: this.#agent,
        connectMs: 5_000,
        answerMs: 15_000,
        idleMs: 15_000,
        signal,
      });
      // The status says it all; the body is read for the connection's sake.
      const text = transferBody(answer, { idleMs: 5_000, expectedBytes: undefined, translate: (error) => error });
      await readBounded(text, maxAnswerBytes).catch(() => undefined);
      if (answer.status >= 200 && answer.status < 300) return undefined;
      const after = Number(answer.headers['retry-after']);
      return { reason: `answered ${answer.status}`, ...(after > 0 && { afterMs: after * 1000 }) };
    } catch (error) {
      return { reason: error instanceof Error ? error.message : String(error) };
    }
  }

  /** The address without what may be a secret. */
  get #shown(): string {
    const { origin, pathname } = new URL(this.#options.url);
    return `${origin}${pathname}`;
  }

  async #wait(ms: number): Promise<void> {
    const { wait = waitFor } = this.#options;
    await wait(ms, this.#stopping.signal).catch(() => undefined);
  }

  /** A receiver that is new gets what happens from now on. */
  async #readPosition(): Promise<number> {
    const { position, log } = this.#options;
    try {
      const { log: id, number } = JSON.parse(await readFile(position, 'utf8')) as { log: string; number: number };
      // After a loss of power the log may end before what the receiver has.
      return id === log.id && number <= log.last ? number : 0;
    } catch {
      await this.#writePosition(log.last);
      return log.last;
    }
  }

  /** Without it, events are delivered again after a restart. */
  async #writePosition(number: number): Promise<void> {
    const { position, log } = this.#options;
    try {
      await writeFile(`${position}.new`, JSON.stringify({ log: log.id, number }), { mode: 0o600 });
      await rename(`${position}.new`, position);
    } catch {
      // The disk does not take it; what is delivered twice has the same id.
    }
  }
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield await Promise.resolve(bytes);
}

async function waitFor(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal });
}
