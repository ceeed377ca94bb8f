import { describe, expect, test } from 'vitest';
import { Durations, type Operation, type Question, Twin } from './twins.ts';

const image = { repository: 'app', tag: 'v1' } as const;
const copy = { repository: 'base', tag: 'v1' } as const;

function ask(of: Question['of'], place: typeof image | typeof copy = image): Question {
  const plain = { range: undefined, isKnown: false, accept: undefined } as const;
  return { kind: 'question', of, by: 'hub', method: 'GET', ...plain, ...place };
}

const everything = [ask('tag'), ask('manifest'), ask('config'), ask('layer')];

/** What ends kept answers, and which answers of the image `app:v1` those are at least. */
const changes: readonly {
  readonly name: string;
  readonly change: readonly Operation[];
  readonly ends: readonly Question[];
}[] = [
  { name: 'the image is removed', change: [{ kind: 'rm', ...image }], ends: everything },
  { name: 'everything is evicted', change: [{ kind: 'evict' }], ends: everything },
  {
    name: 'the image is removed, and another repository keeps its parts',
    change: [
      { kind: 'copy', ...copy },
      ask('tag', copy),
      ask('layer', copy),
      ask('config', copy),
      { kind: 'rm', ...image },
    ],
    ends: everything,
  },
  {
    name: 'a file is altered, and found so',
    change: [{ kind: 'alter', ...image }, { kind: 'verify' }],
    ends: [ask('layer')],
  },
  {
    name: 'a file is lost, and found so',
    change: [{ kind: 'lose', ...image }, { kind: 'verify' }],
    ends: [ask('layer')],
  },
  {
    name: 'the configuration is replaced',
    change: [{ kind: 'configure', tagTtl: '60s', deny: ['library/base'] }],
    ends: everything,
  },
  {
    name: 'the upstream limits requests',
    // Another image has to be asked for.
    change: [{ kind: 'pause' }, { kind: 'push', ...copy }, ask('tag', copy)],
    ends: [ask('tag')],
  },
];

describe('a kept answer is not given any more when', () => {
  test.each(changes)('$name', async ({ change, ends }) => {
    using durations = new Durations();
    await using twin = await Twin.start(true, durations);
    await twin.do({ kind: 'push', ...image });
    for (let time = 0; time < 3; time += 1) for (const question of everything) await twin.do(question);
    const before = await twin.keptAnswers();
    for (const question of everything) await twin.do(question);
    expect(await twin.keptAnswers()).toBe(before + everything.length);
    for (const operation of change) await twin.do(operation);
    for (const question of ends) {
      const kept = await twin.keptAnswers();
      await twin.do(question);
      expect({ question, kept: await twin.keptAnswers() }).toEqual({ question, kept });
    }
  });
});

test('in an outage, the manifest of a whole image is a kept answer, and ends with the first part that is lost', async () => {
  using durations = new Durations();
  await using twin = await Twin.start(true, durations);
  await twin.do({ kind: 'push', ...image });
  for (const question of everything) await twin.do(question);
  await twin.do({ kind: 'down' });
  // The upstream is left alone after some failures.
  for (let time = 0; time < 8; time += 1) await twin.do({ ...ask('tag'), repository: `other-${time}` });
  for (let time = 0; time < 3; time += 1) await twin.do(ask('manifest'));
  const kept = await twin.keptAnswers();
  await twin.do(ask('manifest'));
  expect(await twin.keptAnswers()).toBe(kept + 1);
  await twin.do({ kind: 'lose', ...image });
  await twin.do({ kind: 'verify' });
  await twin.do(ask('manifest'));
  expect(await twin.keptAnswers()).toBe(kept + 1);
});
