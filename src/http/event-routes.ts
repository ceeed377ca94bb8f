import { cloudEvent, type EventKind, eventId, eventTypes, type LoggedEvent, numberOf } from '../events/event.ts';
import type { EventLog } from '../events/event-log.ts';
import { RegistryError } from '../oci/error.ts';
import { nextPageLink, readPageQuery } from '../oci/page.ts';
import type { ExtensionEndpoint, ExtensionRequest } from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import { writePaced } from './write-paced.ts';

/** Most streams at a time: each keeps a connection. */
const maxStreams = 200;
/** Most events on a page; as many where the client does not say. */
const maxEvents = 1_000;
/** Events that are read from the log at a time. */
const batch = 200;
/** How often a stream without events shows that it is there, in milliseconds. */
const heartbeatMs = 15_000;

export interface EventRoutesOptions {
  readonly log: EventLog;
  /** Aborted when streams have to end. */
  readonly ending: AbortSignal;
}

/** Which events a client gets. */
interface Wanted {
  readonly kinds: readonly EventKind[];
  matches(event: LoggedEvent): boolean;
}

/** `GET /v2/_millpond/events`: a stream of server-sent events, or pages (docs/extensions/_millpond.md, `events`). */
export function eventsEndpoint(options: EventRoutesOptions): ExtensionEndpoint {
  let streams = 0;
  return {
    extension: '_millpond',
    component: 'events',
    module: '',
    listed: 'events',
    levels: ['registry', 'repository'],
    methods: ['GET', 'HEAD'],
    async answer(request) {
      const { ctx } = request;
      const wanted = wantedBy(request);
      if (ctx.method === 'HEAD' || !(ctx.req.headers.accept ?? '').includes('text/event-stream')) {
        return await answerPage(request, { ...options, wanted });
      }
      if (streams >= maxStreams) {
        throw new RegistryError('overloaded', 'as many streams of events are open as may be', {
          headers: { 'Retry-After': '30' },
        });
      }
      streams += 1;
      try {
        await answerStream(request, { ...options, wanted });
      } finally {
        streams -= 1;
      }
    },
  };
}

function wantedBy({ parameters, repository, mayRead }: ExtensionRequest): Wanted {
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
      if (repository !== undefined) return event.repository === repository.key;
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
  let position = numberOf(last, log.id);
  let isMore = false;
  for (;;) {
    const found = await log.after(position, batch);
    for (const event of found) {
      if (events.length === limit) {
        isMore = true;
        break;
      }
      position = event.number;
      if (wanted.matches(event)) events.push(event);
    }
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
  { log, ending, wanted }: EventRoutesOptions & { readonly wanted: Wanted },
): Promise<void> {
  const { res } = ctx;
  const resumed = String(ctx.req.headers['last-event-id'] ?? parameters.get('last') ?? '');
  let position = resumed === '' ? log.last : numberOf(resumed, log.id);
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
    'Docker-Distribution-Api-Version': 'registry/2.0',
  });
  const ended = AbortSignal.any([exchange.gone, ending]);
  // The place of a stream that has not had an event yet, for the time after a cut.
  await writePaced(res, `retry: 2000\nid: ${eventId(log.id, position)}\n\n`);
  while (!ended.aborted) {
    const events = await log.after(position, batch);
    const [first] = events;
    if (first === undefined) {
      const beat = AbortSignal.any([ended, AbortSignal.timeout(heartbeatMs)]);
      await log.news(position, beat);
      if (beat.aborted && !ended.aborted) await writePaced(res, `: here\n\n`);
      continue;
    }
    if (first.number > position + 1 && resumed !== '') {
      const missed = { missed: first.number - position - 1 };
      await writePaced(res, `event: dev.millpond.gap\ndata: ${JSON.stringify(missed)}\n\n`);
    }
    for (const event of events) {
      position = event.number;
      if (!wanted.matches(event)) continue;
      const data = JSON.stringify(cloudEvent(event, log.id));
      await writePaced(res, `id: ${eventId(log.id, position)}\nevent: ${eventTypes[event.kind]}\ndata: ${data}\n\n`);
    }
  }
  res.end();
}
