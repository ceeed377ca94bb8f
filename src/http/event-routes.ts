import { cloudEvent, type EventKind, eventId, eventTypes, type LoggedEvent, numberOf } from '../events/event.ts';
import type { EventLog } from '../events/event-log.ts';
import { RegistryError } from '../oci/error.ts';
import { nextPageLink, readPageQuery } from '../oci/page.ts';
import { clientAddress, clientKey } from './client-address.ts';
import type { ExtensionEndpoint, ExtensionRequest } from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import { writePaced } from './write-paced.ts';

/** Most streams at a time: each keeps a connection. */
const maxStreams = 200;
/** Most streams of one client address. */
const maxStreamsOfClient = 150;
/** Most events on a page; as many where the client does not say. */
const maxEvents = 1_000;
/** Events that are read from the log at a time: as many as a file of it has, which is read whole. */
const batch = 1_000;
/** Most events that are looked at for one page, which may then be empty and lead to the next. */
const maxLookedAt = 10_000;
/** How often a stream without events shows that it is there, in milliseconds. */
const heartbeatMs = 15_000;

export interface EventRoutesOptions {
  readonly log: EventLog;
  /** Aborted when streams have to end. */
  readonly ending: AbortSignal;
}

/** `clientIdleMs`: a stream whose client takes nothing of what waits for it is cut after this; read each time. */
type Options = EventRoutesOptions & { readonly clientIdleMs: () => number };

/** Which events a client gets. */
interface Wanted {
  readonly kinds: readonly EventKind[];
  matches(event: LoggedEvent): boolean;
}

/** `GET /v2/_millpond/events`: a stream of server-sent events, or pages (docs/extensions/_millpond.md, `events`). */
export function eventsEndpoint(options: Options): ExtensionEndpoint {
  const streams = new OpenStreams();
  return {
    extension: '_millpond',
    component: 'events',
    module: '',
    listed: 'events',
    levels: ['registry', 'repository'],
    methods: ['GET', 'HEAD'],
    isList: true,
    async answer(request) {
      const { ctx } = request;
      const wanted = wantedBy(request);
      if (ctx.method === 'HEAD' || !(ctx.req.headers.accept ?? '').includes('text/event-stream')) {
        return await answerPage(request, { ...options, wanted });
      }
      using _ = streams.open(clientKey(clientAddress(ctx.req.socket)));
      await answerStream(request, { ...options, wanted });
    },
  };
}

/** The streams that are open, in all and of each client. */
class OpenStreams {
  #all = 0;
  readonly #ofClients = new Map<string, number>();

  /** @returns disposed when the stream has ended. @throws RegistryError where there are too many */
  open(client: string): Disposable {
    const own = this.#ofClients.get(client) ?? 0;
    if (this.#all >= maxStreams || own >= maxStreamsOfClient) {
      throw new RegistryError('overloaded', 'as many streams of events are open as may be', {
        headers: { 'Retry-After': '30' },
      });
    }
    this.#count(client, 1);
    return { [Symbol.dispose]: () => this.#count(client, -1) };
  }

  #count(client: string, change: 1 | -1): void {
    this.#all += change;
    const own = (this.#ofClients.get(client) ?? 0) + change;
    if (own === 0) this.#ofClients.delete(client);
    else this.#ofClients.set(client, own);
  }
}

function wantedBy({ parameters, repository, mayRead, isAllowed }: ExtensionRequest): Wanted {
  const names = (parameters.get('types') ?? '').split(',').filter((name) => name !== '');
  const unknown = names.find((name) => !Object.hasOwn(eventTypes, name));
  if (unknown !== undefined) {
    const known = Object.keys(eventTypes).join(', ');
    throw new RegistryError(
      'bad-name',
      `there are no events of the type "${unknown.slice(0, 50)}"; there are: ${known}`,
    );
  }
  const kinds = names as readonly EventKind[];
  return {
    kinds,
    matches(event) {
      if (kinds.length > 0 && !kinds.includes(event.kind)) return false;
      if (repository !== undefined) return event.repository === repository.key && isAllowed(repository.key);
      return mayRead(event.repository ?? event.upstream ?? '');
    },
  };
}

async function answerPage(
  { ctx, exchange, sender, parameters }: ExtensionRequest,
  { log, wanted }: EventRoutesOptions & { readonly wanted: Wanted },
): Promise<void> {
  const { n = maxEvents, last } = readPageQuery(parameters);
  const limit = Math.min(n, maxEvents);
  const events: LoggedEvent[] = [];
  let position = numberOf(last, log);
  let isMore = false;
  for (let lookedAt = 0; ; ) {
    const found = await log.after(position, batch);
    lookedAt += found.length;
    for (const event of found) {
      if (events.length === limit) {
        isMore = true;
        break;
      }
      position = event.number;
      if (wanted.matches(event)) events.push(event);
    }
    isMore ||= found.length > 0 && lookedAt >= maxLookedAt;
    if (isMore || found.length === 0) break;
  }
  const end = eventId(log.id, position);
  const headers = isMore ? nextPageLink(exchange.path, { parameters, last: end }) : [];
  headers.push('Millpond-Last-Event', end, 'Cache-Control', 'no-store');
  const conditions = { ...conditionsOf(ctx, exchange), headers, contentType: 'application/cloudevents-batch+json' };
  const body = events.map((event) => cloudEvent(event, log.id));
  await sender.send(ctx.res, jsonReply(body, conditions), exchange);
}

async function answerStream(
  { ctx, exchange, parameters }: ExtensionRequest,
  { log, ending, wanted, clientIdleMs }: Options & { readonly wanted: Wanted },
): Promise<void> {
  const { res } = ctx;
  const write = (text: string): Promise<void> => writePaced(res, text, { idleMs: clientIdleMs() });
  const resumed = String(ctx.req.headers['last-event-id'] ?? parameters.get('last') ?? '');
  let position = resumed === '' ? log.last : numberOf(resumed, log);
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
    'Docker-Distribution-Api-Version': 'registry/2.0',
  });
  const ended = AbortSignal.any([exchange.gone, ending]);
  // The place of a stream that has not had an event yet, for the time after a cut.
  await write(`retry: 2000\nid: ${eventId(log.id, position)}\n\n`);
  // The credentials from the beginning may have expired, or have been revoked, since.
  while (!ended.aborted && exchange.isCurrent()) {
    const events = await log.after(position, batch);
    const [first] = events;
    if (first === undefined) {
      const beat = AbortSignal.any([ended, AbortSignal.timeout(heartbeatMs)]);
      await log.news(position, beat);
      if (beat.aborted && !ended.aborted && exchange.isCurrent()) await write(`: here\n\n`);
      continue;
    }
    if (first.number > position + 1 && resumed !== '') {
      const missed = { missed: first.number - position - 1 };
      await write(`event: dev.millpond.gap\ndata: ${JSON.stringify(missed)}\n\n`);
    }
    for (const event of events) {
      position = event.number;
      if (!wanted.matches(event)) continue;
      if (!exchange.isCurrent()) break;
      const data = JSON.stringify(cloudEvent(event, log.id));
      await write(`id: ${eventId(log.id, position)}\nevent: ${eventTypes[event.kind]}\ndata: ${data}\n\n`);
    }
  }
  res.end();
}
