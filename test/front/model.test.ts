import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fuzz } from '../support/fuzz.ts';
import { Durations, type Operation, type Question, Twin } from './twins.ts';

const place = { repository: fc.constantFrom('app', 'base'), tag: fc.constantFrom('v1', 'v2') };

const question: fc.Arbitrary<Question> = fc.record({
  kind: fc.constant('question' as const),
  ...place,
  of: fc.constantFrom('tag' as const, 'tag' as const, 'manifest' as const, 'config' as const, 'layer' as const),
  by: fc.constantFrom('hub' as const, 'hub' as const, 'hub' as const, 'ns' as const, 'quay' as const),
  method: fc.constantFrom('GET' as const, 'GET' as const, 'GET' as const, 'HEAD' as const),
  range: fc.constantFrom(undefined, undefined, undefined, 'bytes=10-99', 'bytes=-5', 'bytes=0-1,7-8'),
  isKnown: fc.constantFrom(false, false, false, true),
  accept: fc.constantFrom(undefined, undefined, undefined, 'application/vnd.oci.image.manifest.v1+json', 'text/plain'),
});

const change: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'push' as const,
        'copy' as const,
        'copy' as const,
        'rm' as const,
        'rm' as const,
        'delete tag' as const,
      ),
      ...place,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('alter' as const, 'lose' as const, 'pin' as const, 'unpin' as const),
      ...place,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'down' as const,
        'up' as const,
        'up' as const,
        'pause' as const,
        'evict' as const,
        'verify' as const,
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('wait' as const), seconds: fc.constantFrom(1, 7, 21, 61, 700, -30) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('limit' as const), remaining: fc.nat(100) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('configure' as const),
      tagTtl: fc.constantFrom('5s', '60s', '0s'),
      deny: fc.constantFrom([], [], ['library/base']),
    }),
  },
);

/** The same few things are asked for again and again, between one change and the next. */
const round = fc.record({ change, questions: fc.array(question, { minLength: 1, maxLength: 6 }) });

test('a mirror that keeps answers gives the same as one that decides each request', async () => {
  let kept = 0;
  await fuzz(
    [fc.array(round, { minLength: 5, maxLength: 25 })],
    async (rounds) => {
      using durations = new Durations();
      await using keeping = await Twin.start(true, durations);
      await using deciding = await Twin.start(false, durations);
      const asked: Question[] = [];
      for (const { change: operation, questions } of rounds) {
        asked.push(...questions);
        // Once more, what was asked for before: what a change has left of it has to be the same too.
        for (const next of [...questions, ...questions, operation, ...asked.slice(-12)]) {
          const [one, other] = await Promise.all([keeping.do(next), deciding.do(next)]);
          expect({ next, answer: one }).toEqual({ next, answer: other });
        }
      }
      kept += await keeping.keptAnswers();
    },
    { runs: 4, shrinks: false },
  );
  expect(kept).toBeGreaterThan(0);
});
