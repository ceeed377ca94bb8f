import { Session } from 'node:inspector';
import { setFlagsFromString } from 'node:v8';

// Compiled code does not count its blocks.
for (const compiler of ['opt', 'maglev', 'sparkplug']) setFlagsFromString(`--no-${compiler}`);

interface ScriptCoverage {
  readonly url: string;
  readonly functions: readonly { readonly ranges: readonly { readonly count: number }[] }[];
}

/** Methods that look at a text or bytes from a place on, and give the place where they have found something. */
const searches = ['indexOf', 'search'] as const;

/**
 * How many steps our own code takes for something: the blocks of `src/` that are entered (a turn of a loop is one), and the
 * characters that searches go over. The same each time and on every machine, unlike the time.
 * What regular expressions do is not counted: `test/regular-expressions.test.ts` looks at them.
 * @param work what is to be counted, twice, since the first time compiles it; what it throws is let go
 */
export function stepsOf(work: () => unknown): number {
  using session = startCounting();
  let searched = 0;
  using _ = countSearches((characters) => (searched += characters));
  attempt(work);
  session.take();
  searched = 0;
  attempt(work);
  return session.take() + searched;
}

function attempt(work: () => unknown): void {
  try {
    work();
  } catch {
    // A refusal is an end like any other.
  }
}

function startCounting() {
  const session = new Session();
  session.connect();
  post(session, 'Profiler.enable');
  post(session, 'Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  return {
    take(): number {
      const { result } = post(session, 'Profiler.takePreciseCoverage') as { result: ScriptCoverage[] };
      const own = result.filter(({ url }) => url.includes('/src/') && !url.includes('/node_modules/'));
      const ranges = own.flatMap(({ functions }) => functions.flatMap((one) => one.ranges));
      return ranges.reduce((sum, { count }) => sum + count, 0);
    },
    [Symbol.dispose]: () => session.disconnect(),
  };
}

function post(session: Session, method: string, parameters: object = {}): unknown {
  let answer: unknown;
  let failure: Error | null = null;
  // The inspector of this very process answers at once.
  session.post(method, parameters, (error: Error | null, result: unknown) => {
    failure = error;
    answer = result;
  });
  if (failure !== null) throw failure as Error;
  return answer;
}

function countSearches(add: (characters: number) => void): Disposable {
  const prototype = String.prototype as unknown as Record<string, (this: string, ...args: unknown[]) => unknown>;
  const originals = searches.map((name) => [name, prototype[name]!] as const);
  for (const [name, original] of originals) {
    prototype[name] = function counted(this: string, ...args: unknown[]) {
      const found = original.apply(this, args);
      const start = typeof args[1] === 'number' ? args[1] : 0;
      add((typeof found === 'number' && found >= 0 ? found : this.length) - start);
      return found;
    };
  }
  return {
    [Symbol.dispose]: () => {
      for (const [name, original] of originals) prototype[name] = original;
    },
  };
}
