import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { MillpondEvent } from '../events/event.ts';
import { EventLog } from '../events/event-log.ts';
import { Webhook, type WebhookEvent } from '../events/webhook.ts';
import { repositoryGlob } from '../oci/glob.ts';
import type { Report } from '../oci/report.ts';
import { described } from './described.ts';
import type { Parts } from './parts.ts';

/** The events about content: a log, a stream and webhooks. */
export interface LiveEvents extends AsyncDisposable {
  readonly log: EventLog;
  /** Aborted when streams have to end. */
  readonly ending: AbortSignal;
  /** Never throws. */
  add(event: MillpondEvent): void;
  /** Ends streams, so that a stop does not wait for them. */
  end(): void;
}

/** Takes events from the start on, and hands them on once their log is open: that is after the cache has been looked at. */
export class EarlyEvents {
  #waiting: MillpondEvent[] = [];
  #log: Pick<LiveEvents, 'add'> | undefined;

  readonly add = (event: MillpondEvent): void => {
    if (this.#log) this.#log.add(event);
    else this.#waiting.push(event);
  };

  handTo(log: Pick<LiveEvents, 'add'>): void {
    this.#log = log;
    for (const event of this.#waiting) log.add(event);
    this.#waiting = [];
  }
}

/** @param config read each time: it may be replaced while the mirror runs */
export async function openEvents(
  started: Config,
  { config, log, metrics, files, now }: Parts & { readonly config: () => Config },
): Promise<LiveEvents> {
  await using owned = new AsyncDisposableStack();
  const folder = join(started.cache.dir, 'events');
  let isFaulty = false;
  const events = owned.use(
    await EventLog.open({
      folder,
      keep: () => config().events.keep,
      now,
      onFault(error) {
        if (!isFaulty)
          log.error({ error: described(error) }, 'events cannot be written: they do not outlive a restart');
        isFaulty = true;
      },
    }),
  );
  for (const webhook of started.events.webhooks) {
    owned.use(await openWebhook(webhook, { folder, events, log, metrics, files, now }));
  }
  const ending = new AbortController();
  const held = owned.move();
  return {
    log: events,
    ending: ending.signal,
    add(event) {
      // What is only cached of hosted repositories is reported by the replica that keeps them.
      if (event.repository?.startsWith('_') !== true) events.add(event);
    },
    end: () => ending.abort(),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await held.disposeAsync();
    },
  };
}

/** Sends events to one receiver, with the secret that its file holds now. */
async function openWebhook(
  { url, secretFile, types, repositories, retryForMs }: Config['events']['webhooks'][number],
  parts: Pick<Parts, 'log' | 'metrics' | 'files' | 'now'> & { readonly folder: string; readonly events: EventLog },
): Promise<Webhook> {
  const { folder, events, files, now } = parts;
  let secret = Buffer.alloc(0);
  const key = 'events.webhooks.secretFile';
  await files.take('events', {
    name: `secret for ${url}`,
    files: { [key]: secretFile },
    code: 'file-refused',
    take(texts) {
      secret = Buffer.from((texts[key] ?? '').trim());
      if (secret.length < 16) throw new Error(`${key}: ${secretFile} holds fewer than 16 bytes`);
    },
  });
  const globs = repositories.map(repositoryGlob);
  return new Webhook({
    url,
    secret: () => secret,
    kinds: types,
    wants: (repository) => globs.some((fits) => fits(repository)),
    retryForMs,
    position: join(folder, `webhook-${createHash('sha256').update(url).digest('hex').slice(0, 16)}.json`),
    log: events,
    now,
    report: webhookReport(parts),
  });
}

function webhookReport({ log, metrics }: Pick<Parts, 'log' | 'metrics'>): Report<WebhookEvent> {
  return (event) => {
    const { kind: result, url } = event;
    metrics.webhooks.inc({ result }, event.kind === 'dropped' ? event.events : 1);
    if (event.kind === 'failed') {
      const { reason, attempts, retryMs } = event;
      log.warn({ url, reason, attempts, retryMs }, 'event not taken, tried again');
    } else if (event.kind === 'dropped') {
      log.error({ url, events: event.events, reason: event.reason }, 'events not delivered');
    }
  };
}
