import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { type RunnerTask, type RunnerTestCase, type RunnerTestFile, TestRunner, type TestTryOptions } from 'vitest';
import { reachVariable, switchOf, turn } from './switch.ts';

/** What is to be done, in the file that `MUTATION_PLAN` names. */
export interface Plan {
  /** Each event is appended to it at once, one JSON value a line, since the process may be ended. */
  readonly ledger: string;
  /** The changes to judge, as `file id`. */
  readonly mutants: readonly string[];
  /** Tests that are done, and pairs of a test and a change that are (`test change`). */
  readonly done: readonly string[];
  /** A test that takes longer judges nothing. */
  readonly slowMs: number;
}

export type LedgerEvent =
  /** The test begins, without a change. */
  | { readonly event: 'test'; readonly file: string; readonly test: string; readonly name: string }
  /** The test is done; it judged if it is `fit`. */
  | { readonly event: 'judged'; readonly test: string; readonly fit: boolean; readonly reached: readonly string[] }
  /** The test begins with a change, and has passed or failed with it. */
  | { readonly event: 'change' | 'passed' | 'failed'; readonly test: string; readonly mutant: string }
  /** Every test of the file has had its turn. */
  | { readonly event: 'file'; readonly file: string };

interface Outcome {
  readonly passed: boolean;
  readonly tookMs: number;
}

const plan = JSON.parse(readFileSync(process.env['MUTATION_PLAN']!, 'utf8')) as Plan;
const done = new Set(plan.done);
const open = new Set(plan.mutants);
const root = `${process.cwd()}/`;

/**
 * Runs each test without a change first, and then with each change whose code it reached, with the hooks of the test each
 * time, in one process. A change is seen if the test fails with it, passes without it right after, and fails with it again.
 * A test that does not end, or that fails without the change from then on, ends the process: the program that started it
 * begins another one, where the same must happen once more.
 */
export default class SwitchingRunner extends TestRunner {
  #elsewhere: ReadonlySet<string> = new Set();
  #turns: Generator<string | undefined, void, Outcome> | undefined;
  #startMs = 0;
  #limitMs = unchangedMs;
  #counts: Readonly<Record<string, Readonly<Record<string, number>>>> = {};

  override async onBeforeRunTask(test: RunnerTestCase): Promise<void> {
    this.#turns = undefined;
    if (done.has(test.id) || test.concurrent || test.fails) test.mode = 'skip';
    await super.onBeforeRunTask(test);
    if (test.mode !== 'run' && test.mode !== 'queued') return;
    test.retry = 0;
    test.repeats = Number.MAX_SAFE_INTEGER;
    note({ event: 'test', file: test.file.filepath.slice(root.length), test: test.id, name: test.fullName });
    this.#turns = this.#judging(test);
    this.#turns.next();
  }

  override onBeforeTryTask(test: RunnerTestCase, options: TestTryOptions): void {
    this.#startMs = performance.now();
    super.onBeforeTryTask(test, options);
  }

  async runTask(test: RunnerTestCase): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>(() => {
      timer = realTimeout(die, this.#limitMs);
    });
    try {
      await Promise.race([TestRunner.getTestFn(test)(), late]);
    } finally {
      clearRealTimeout(timer);
    }
  }

  override async onAfterRetryTask(test: RunnerTestCase, options: TestTryOptions): Promise<void> {
    await super.onAfterRetryTask(test, options);
    const result = test.result!;
    const outcome = { passed: result.state === 'pass', tookMs: performance.now() - this.#startMs };
    turn(undefined);
    result.attempts?.splice(0);
    delete result.errors;
    const next = this.#turns!.next(outcome);
    // Vitest goes on to the next test only so.
    if (next.done) Object.assign(result, { pending: true });
    else if (next.value !== undefined) this.#change(next.value);
  }

  override onAfterRunFiles(files: RunnerTestFile[]): void {
    super.onAfterRunFiles(files);
    for (const { filepath } of files) note({ event: 'file', file: filepath.slice(root.length) });
  }

  #change(mutant: string): void {
    const [file, id] = mutant.split(' ') as [string, string];
    turn({ file, id, mostRuns: 10_000 + 100 * this.#runsOf(mutant) });
  }

  #runsOf(mutant: string): number {
    const [file, id] = mutant.split(' ') as [string, string];
    return this.#counts[file]?.[id] ?? (this.#elsewhere.has(mutant) ? 1 : 0);
  }

  *#judging(test: RunnerTask): Generator<string | undefined, void, Outcome> {
    this.#limitMs = unchangedMs;
    const elsewhere = `${plan.ledger}-elsewhere`;
    writeFileSync(elsewhere, '');
    process.env[reachVariable] = elsewhere;
    Object.assign(switchOf(), { reached: {}, mostRuns: 3_000_000 });
    const first = yield undefined;
    this.#counts = switchOf().reached!;
    switchOf().reached = undefined;
    delete process.env[reachVariable];
    this.#elsewhere = new Set(readFileSync(elsewhere, 'utf8').split('\n'));
    const reached = plan.mutants.filter((mutant) => this.#runsOf(mutant) > 0);
    const left = reached.filter((mutant) => open.has(mutant) && !done.has(`${test.id} ${mutant}`));
    const isQuick = first.passed && first.tookMs <= plan.slowMs;
    const again = isQuick && left.length > 0 ? yield undefined : first;
    const fit = isQuick && again.passed;
    if (fit) {
      this.#limitMs = 1500 + 10 * Math.max(first.tookMs, again.tookMs);
      for (const mutant of left) yield* this.#judge(test.id, mutant);
    }
    note({ event: 'judged', test: test.id, fit, reached });
  }

  *#judge(test: string, mutant: string): Generator<string | undefined, void, Outcome> {
    note({ event: 'change', test, mutant });
    if (!(yield mutant).passed) {
      if (!(yield undefined).passed) die();
      if (!(yield mutant).passed) {
        open.delete(mutant);
        note({ event: 'failed', test, mutant });
        return;
      }
    }
    note({ event: 'passed', test, mutant });
  }
}

/** A test that takes longer without a change ends the process. */
const unchangedMs = 30_000;

// A test may put others in their place.
const realTimeout = setTimeout;
const clearRealTimeout = clearTimeout;

function note(event: LedgerEvent): void {
  appendFileSync(plan.ledger, `${JSON.stringify(event)}\n`);
}

/** What has run with a change may run on, and cannot be ended otherwise. */
function die(): never {
  // Vitest itself too, which would wait.
  process.kill(process.ppid, 'SIGKILL');
  process.kill(process.pid, 'SIGKILL');
  throw new Error('This process ends.');
}
