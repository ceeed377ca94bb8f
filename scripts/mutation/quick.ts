import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { idOf } from './coverage.ts';
import { instrumented, type Mutant } from './mutants.ts';
import { runTests } from './run-tests.ts';
import { sandbox } from './sandbox.ts';
import { switching } from './switch.ts';
import type { LedgerEvent, Plan } from './switching-runner.ts';

/** What quick tests have found, all in one process. */
export interface QuickVerdicts {
  /** The changes that were seen, and by which test. */
  readonly seen: ReadonlyMap<string, { readonly result: 'killed' | 'hung'; readonly by: string }>;
  /** The changes whose code such a test ran. */
  readonly reached: ReadonlySet<string>;
  /** The files of tests of which every test has judged. */
  readonly complete: ReadonlySet<string>;
}

/** A process that has written nothing for so long cannot go on by itself. */
const idleMs = 30_000;

/**
 * Judges changes by the tests that take little time, in a copy of the project that holds all changes.
 * @param options `sources`: those of the changes; `slowMs`: a test that takes longer judges nothing
 */
export async function quickVerdicts(
  root: string,
  { mutants, sources, tests, slowMs }: QuickOptions,
): Promise<QuickVerdicts> {
  await using place = await sandbox(root);
  for (const source of sources) {
    const { content, mutants: all } = await instrumented(root, source);
    if (all.length > 0) await writeFile(join(place.path, source), content + switching(source));
  }
  const slow = await SlowTests.of(root, tests);
  const state = new Ledger(slow);
  const paths = { plan: join(place.path, 'plan.json'), ledger: join(place.path, 'ledger') };
  while (true) {
    const left = tests.filter((test) => !state.files.has(test));
    if (left.length === 0) break;
    const open = mutants.map(idOf).filter((mutant) => !state.seen.has(mutant));
    const plan: Plan = { ledger: paths.ledger, mutants: open, done: [...state.done], slowMs };
    await slow.keep();
    await writeFile(paths.plan, JSON.stringify(plan));
    await writeFile(paths.ledger, '');
    const env = { MUTATION_PLAN: paths.plan, MUTATION_POLL_MS: '1500' };
    const { output } = await runTests(place.path, left, { limitMs: 3_600_000, idleMs, growing: paths.ledger, env });
    const events = (await readFile(paths.ledger, 'utf8')).split('\n').filter((line) => line !== '');
    const before = state.size;
    for (const event of events) state.add(JSON.parse(event) as LedgerEvent);
    state.end();
    if (state.size === before) throw new Error(`The tests cannot be run:\n${output.slice(-4000)}`);
  }
  await slow.keep();
  return state;
}

interface QuickOptions {
  readonly mutants: readonly Mutant[];
  readonly sources: readonly string[];
  readonly tests: readonly string[];
  readonly slowMs: number;
}

/** The tests that judge nothing, kept outside the project until their file changes, so that they need not be run again. */
class SlowTests {
  readonly ids = new Map<string, Set<string>>();
  readonly #paths: ReadonlyMap<string, string>;

  private constructor(paths: ReadonlyMap<string, string>) {
    this.#paths = paths;
  }

  static async of(root: string, files: readonly string[]): Promise<SlowTests> {
    const paths = new Map<string, string>();
    for (const file of files) {
      const key = createHash('sha256').update(await readFile(join(root, file)));
      paths.set(file, join(tmpdir(), 'millpond-mutation-slow', `${key.digest('hex')}.json`));
    }
    const known = new SlowTests(paths);
    for (const [file, path] of paths) {
      const ids = JSON.parse(await readFile(path, 'utf8').catch(() => '[]')) as string[];
      known.ids.set(file, new Set(ids));
    }
    return known;
  }

  add(file: string, test: string): void {
    this.ids.get(file)?.add(test);
  }

  async keep(): Promise<void> {
    await mkdir(join(tmpdir(), 'millpond-mutation-slow'), { recursive: true });
    for (const [file, path] of this.#paths) await writeFile(path, JSON.stringify([...this.ids.get(file)!]));
  }
}

/** What the processes have written so far. */
class Ledger implements QuickVerdicts {
  readonly seen = new Map<string, { result: 'killed' | 'hung'; by: string }>();
  readonly reached = new Set<string>();
  readonly complete = new Set<string>();
  readonly files = new Set<string>();
  readonly done: Set<string>;
  readonly #slow: SlowTests;
  readonly #ended = new Set<string>();
  #test: Extract<LedgerEvent, { event: 'test' }> | undefined;
  #change: string | undefined;

  constructor(slow: SlowTests) {
    this.#slow = slow;
    this.done = new Set([...slow.ids.values()].flatMap((ids) => [...ids]));
  }

  get size(): number {
    return this.seen.size + this.done.size + this.files.size + this.#ended.size;
  }

  add(event: LedgerEvent): void {
    if (event.event === 'test') this.#test = event;
    else if (event.event === 'change') this.#change = event.mutant;
    else if (event.event === 'judged') this.#judged(event);
    else if (event.event === 'file') this.#file(event.file);
    else {
      if (event.event === 'failed') this.seen.set(event.mutant, { result: 'killed', by: this.#name() });
      this.done.add(`${event.test} ${event.mutant}`);
      this.#change = undefined;
    }
  }

  /** The process has ended: a test that did not come to its end without a change is done; with one, if it has ended two. */
  end(): void {
    if (this.#test === undefined) return;
    const { test, file } = this.#test;
    const pair = `${test} ${this.#change ?? ''}`;
    if (this.#change === undefined) {
      this.#slow.add(file, test);
      this.done.add(test);
    } else if (!this.#ended.has(pair)) this.#ended.add(pair);
    else {
      this.seen.set(this.#change, { result: 'hung', by: this.#name() });
      this.done.add(pair);
    }
    this.#test = undefined;
    this.#change = undefined;
  }

  #name(): string {
    return `${this.#test?.file} > ${this.#test?.name}`;
  }

  #judged({ test, fit, reached }: Extract<LedgerEvent, { event: 'judged' }>): void {
    this.done.add(test);
    if (fit) for (const mutant of reached) this.reached.add(mutant);
    else if (this.#test !== undefined) this.#slow.add(this.#test.file, test);
    this.#test = undefined;
  }

  #file(file: string): void {
    this.files.add(file);
    if (this.#slow.ids.get(file)?.size === 0) this.complete.add(file);
    this.#test = undefined;
  }
}
