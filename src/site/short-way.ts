import type { Search } from '../discovery/search/search.ts';
import { FileSender } from '../front/file-sender.ts';
import type { Generations } from '../front/generations.ts';
import { Keeper } from '../front/keeper.ts';
import type { KeptAnswer } from '../front/kept-answer.ts';
import { KeptAnswers } from '../front/kept-answers.ts';
import type { FrontReport } from '../front/messages.ts';
import { OpenFiles } from '../front/open-files.ts';
import type { ReadRequest } from '../front/request-key.ts';
import { fieldsOf, RequestLines, resultOf } from '../front/request-line.ts';
import { type Served, ShortWay } from '../front/short-way.ts';
import { systemCalls } from '../front/system-calls.ts';
import type { Admission } from '../http/admission.ts';
import { roomsOf } from '../http/rooms.ts';
import type { Digest } from '../oci/digest.ts';
import type { RequestLog } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';
import { countServed } from './search.ts';

/** Memory for answers that are kept, in bytes. */
const keptBytes = 32 * 1024 * 1024;
/** Files that stay open beside those that are being sent. */
const maxOpenFiles = 128;

/** The short way of this process: what it answers, and how it is given answers to keep. */
export interface OwnShortWay extends Disposable {
  readonly way: ShortWay;
  readonly keeper: Keeper;
  /** Receives each answer that is kept or given here; set when there are other threads that give them. */
  share: (key: string, answer: KeptAnswer) => void;
  /** Decides what needs no waiting; set once everything is there that has a say in it. */
  decide: (read: ReadRequest) => KeptAnswer | undefined;
  /** Counts what other threads have answered. */
  reported(report: FrontReport): void;
}

interface ShortWayParts {
  readonly generations: Generations;
  readonly admission: Admission;
  readonly log: RequestLog;
  readonly metrics: Metrics;
  readonly now: () => number;
  readonly search: Search;
}

/** Answers what has been decided before, without the application. */
export function openShortWay(cache: Cache, parts: ShortWayParts): OwnShortWay {
  const { generations, admission, now, search } = parts;
  const count = countServed(search);
  const { store, catalog } = cache;
  const answers = new KeptAnswers({ generations, maxBytes: keptBytes, now });
  const files = new OpenFiles({ max: maxOpenFiles });
  const reports = servedReports(parts);
  const touch = ({ digest }: Pick<KeptAnswer, 'digest'>): void => {
    if (digest !== undefined) catalog.uses.touch(digest as Digest);
  };
  const way = new ShortWay({
    answers,
    files,
    sender: new FileSender(cache.config.serve.sendfile === 'off' ? undefined : systemCalls()),
    rooms: roomsOf(admission),
    reading: (digest) => store.reading(digest as Digest),
    onServed(request) {
      touch(request.answer);
      reports.served(request);
      count(request);
      own.share(request.key, request.answer);
    },
    decide: (read) => own.decide(read),
    clientIdleMs: () => cache.config.timeouts.clientIdleMs,
    now,
  });
  const keeper = new Keeper({
    generations,
    keyOf: (request) => way.keyOf(request),
    keep: (key, answer) => {
      answers.set(key, answer);
      own.share(key, answer);
    },
    // What is held may be let go by time alone.
    isAllowed: () => cache.config.hold.length === 0,
  });
  const own: OwnShortWay = {
    way,
    keeper,
    share: () => undefined,
    decide: () => undefined,
    reported(report) {
      for (const { times, whole, ...answer } of report.given) {
        for (let time = 0; time < times; time += 1) touch(answer);
        for (let time = 0; time < whole; time += 1) count({ answer, isComplete: true });
      }
      reports.reported(report);
    },
    [Symbol.dispose]: () => files[Symbol.dispose](),
  };
  return own;
}

/** One log line and one count for each request, as of those that are decided. */
function servedReports({ log, metrics }: { log: RequestLog; metrics: Metrics }) {
  const lines = new RequestLines();
  let count = 0;
  let readyCount = 0;
  metrics.watchCount('kept_answers_total', 'Requests that were answered as before, without a decision.', () => count);
  const help = 'First requests for stored blobs that were answered without the application.';
  metrics.watchCount('ready_answers_total', help, () => readyCount);
  const write = (members: string): void => {
    if (log.line) log.line('info', members);
    else log('info', JSON.parse(`{${members}}`) as Record<string, unknown>);
  };
  return {
    served(served: Served): void {
      if (served.isNew) readyCount += 1;
      else count += 1;
      const { answer, sentBytes, durationMs, isComplete } = served;
      const { upstream, kind } = answer.about;
      const result = resultOf(served);
      metrics.countRequest({ upstream, kind, result, bytes: sentBytes, seconds: durationMs / 1000 });
      if (isComplete && log.line) log.line('info', lines.members(served));
      else log(result === 'cut' ? 'warn' : 'info', fieldsOf(served, described));
    },
    reported(report: FrontReport): void {
      for (const { times } of report.given) count += times;
      metrics.addRequests(report.tallies);
      for (const members of report.lines.split('\n')) if (members !== '') write(members);
      for (const { level, fields } of report.broken) log(level, fields);
    },
  };
}
