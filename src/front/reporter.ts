import { Tallies } from '../telemetry/tallies.ts';
import type { KeptAnswer } from './kept-answer.ts';
import type { FrontReport, GivenAnswer } from './messages.ts';
import { fieldsOf, RequestLines, resultOf } from './request-line.ts';
import type { Served } from './short-way.ts';

/** How often a front tells what it has done, in milliseconds. */
const everyMs = 100;
/** Lines that are handed on sooner; they wait outside of the heap, where no collector has to move them. */
const lineBytes = 64 * 1024;

export interface ReporterOptions {
  readonly send: (report: FrontReport) => void;
  /** The text of an error without secrets. */
  readonly described: (error: unknown) => unknown;
}

/** Gathers what a front thread has done, and hands it on in batches. */
export class Reporter implements Disposable {
  readonly #options: ReporterOptions;
  readonly #tallies = new Tallies();
  readonly #given = new Map<KeptAnswer, GivenAnswer>();
  readonly #made = new RequestLines();
  readonly #lines = Buffer.allocUnsafeSlow(lineBytes);
  #length = 0;
  #broken: FrontReport['broken'][number][] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  served(served: Served): void {
    const { answer, sentBytes, durationMs, isComplete } = served;
    const { upstream, kind } = answer.about;
    const result = resultOf(served);
    this.#tallies.count({ upstream, kind, result, bytes: sentBytes, seconds: durationMs / 1000 });
    const given = this.#givenOf(answer);
    given.times += 1;
    if (isComplete) given.whole += 1;
    if (isComplete) this.#write(`${this.#made.members(served)}\n`);
    else {
      const fields = fieldsOf(served, this.#options.described);
      this.#broken.push({ level: result === 'cut' ? 'warn' : 'info', fields });
    }
    this.#timer ??= setTimeout(() => this.#report(), everyMs);
  }

  /** Hands on the rest. */
  [Symbol.dispose](): void {
    this.#report();
  }

  #givenOf(answer: KeptAnswer): GivenAnswer {
    let given = this.#given.get(answer);
    if (given === undefined) {
      const { status, about, digest } = answer;
      this.#given.set(answer, (given = { status, about, digest, times: 0, whole: 0 }));
    }
    return given;
  }

  #write(line: string): void {
    // A character takes at most three bytes.
    if (this.#length + line.length * 3 > lineBytes) this.#report();
    this.#length += this.#lines.write(line, this.#length);
  }

  #report(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lines = this.#lines.toString('utf8', 0, this.#length);
    const report = {
      lines,
      broken: this.#broken,
      tallies: this.#tallies.take(),

      given: [...this.#given.values()],
    };
    this.#length = 0;
    this.#broken = [];
    this.#given.clear();
    this.#options.send(report);
  }
}
