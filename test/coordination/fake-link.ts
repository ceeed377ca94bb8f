import { type Link, LinkError } from '../../src/coordination/redis.ts';
import type { Script } from '../../src/coordination/scripts.ts';

/** What Redis was asked to run. */
export interface Run {
  readonly script: string;
  readonly keys: readonly string[];
  readonly values: readonly (string | number)[];
}

/** A link that answers what a test says, and notes what it was asked. */
export function fakeLink(answer: (run: Run, count: number) => unknown) {
  const runs: Run[] = [];
  const link: Link = {
    reason: undefined,
    run({ name }: Script, keys, values) {
      const run = { script: name, keys, values };
      runs.push(run);
      return new Promise((resolve) => resolve(answer(run, runs.length)));
    },
  };
  return { link, runs, scripts: () => runs.map(({ script }) => script) };
}

/** As a link fails while Redis is lost. */
export function lost(): never {
  throw new LinkError('Redis is lost');
}
