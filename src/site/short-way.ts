import type { Search } from '../discovery/search/search.ts';
import { FileSender } from '../front/file-sender.ts';
import type { Generations } from '../front/generations.ts';
import { Keeper } from '../front/keeper.ts';
import { KeptAnswers } from '../front/kept-answers.ts';
import { OpenFiles } from '../front/open-files.ts';
import { fieldsOf, RequestLines, resultOf } from '../front/request-line.ts';
import { type Served, ShortWay } from '../front/short-way.ts';
import { systemCalls } from '../front/system-calls.ts';
import type { Admission } from '../http/admission.ts';
import { roomsOf } from '../http/rooms.ts';
import type { Digest } from '../oci/digest.ts';
import type { RequestLog } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Cache } from './cache.ts';
import { described } from './observers.ts';
import { countServed } from './search.ts';

/** Memory for answers that are kept, in bytes. */
const keptBytes = 32 * 1024 * 1024;
/** Files that stay open beside those that are being sent. */
const maxOpenFiles = 128;

/** The short way of this process: what it answers, and how it is given answers to keep. */
export interface OwnShortWay extends Disposable {
  readonly way: ShortWay;
  readonly keeper: Keeper;
}

/** Answers what has been decided before, without the application. */
export function openShortWay(
  cache: Cache,
  parts: {
    readonly generations: Generations;
    readonly admission: Admission;
    readonly log: RequestLog;
    readonly metrics: Metrics;
    readonly now: () => number;
    readonly search: Search;
  },
): OwnShortWay {
  const { generations, admission, now, search } = parts;
  const count = countServed(search);
  const { store, catalog } = cache;
  const answers = new KeptAnswers({ generations, maxBytes: keptBytes, now });
  const files = new OpenFiles({ max: maxOpenFiles });
  const observe = servedObserver(parts);
  const way = new ShortWay({
    answers,
    files,
    sender: new FileSender(systemCalls()),
    rooms: roomsOf(admission),
    reading: (digest) => store.reading(digest as Digest),
    onServed(served) {
      catalog.uses.touch(served.answer.digest as Digest);
      observe(served);
      count(served);
    },
    clientIdleMs: () => cache.config.timeouts.clientIdleMs,
    now,
  });
  const keeper = new Keeper({
    generations,
    keyOf: (request) => way.keyOf(request),
    keep: (key, answer) => answers.set(key, answer),
    // The caller decides what may be read, and is not part of the key.
    isAllowed: () => cache.config.auth === undefined && cache.config.hold.length === 0,
  });
  return { way, keeper, [Symbol.dispose]: () => files[Symbol.dispose]() };
}

/** One log line and one count for each request, as of those that are decided. */
function servedObserver({ log, metrics }: { log: RequestLog; metrics: Metrics }): (served: Served) => void {
  const lines = new RequestLines();
  let count = 0;
  metrics.watchCount('kept_answers_total', 'Requests that were answered as before, without a decision.', () => count);
  return (served) => {
    count += 1;
    const { answer, sentBytes, durationMs, isComplete } = served;
    const { upstream, kind } = answer.about;
    const result = resultOf(served);
    metrics.countRequest({ upstream, kind, result, bytes: sentBytes, seconds: durationMs / 1000 });
    if (isComplete && log.line) log.line('info', lines.members(served));
    else log(result === 'cut' ? 'warn' : 'info', fieldsOf(served, described));
  };
}
