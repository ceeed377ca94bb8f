import { describe, expect, test } from 'vitest';
import { nextTime } from '../../src/config/schedule.ts';
import { listSettings, showYaml } from '../../src/config/show.ts';
import { loadText, problemsOf } from './sources.ts';

const text = `
prefetch:
  - schedule: "0 3 * * *"
    images: [nginx:1.27, { name: ghcr.io/x/y, tags: ["^1", latest], limit: 3 }]
    platforms: [linux/amd64]
  - every: 6h
    file: lists/images.yaml
    referrers: false
`;

describe('prefetch', () => {
  test('is read, shown, and what is shown can be read again', async () => {
    const loaded = await loadText(text);
    expect(loaded.config.prefetch).toEqual([
      {
        schedule: '0 3 * * *',
        images: [{ name: 'nginx:1.27' }, { name: 'ghcr.io/x/y', tags: ['^1', 'latest'], limit: 3 }],
        file: undefined,
        platforms: ['linux/amd64'],
        referrers: true,
      },
      {
        everyMs: 21_600_000,
        file: expect.stringMatching(/^\/.*\/lists\/images\.yaml$/),
        platforms: undefined,
        referrers: false,
      },
    ]);
    const again = await loadText(showYaml(listSettings(loaded)));
    expect(again.config.prefetch).toEqual(loaded.config.prefetch);
  });

  test.each([
    ['- images: [a]', 'millpond.yaml:2: prefetch[0]: accepted: exactly one of schedule, every'],
    ['- { every: 1h, schedule: "0 3 * * *", images: [a] }', 'exactly one of schedule, every'],
    ['- { every: 1h }', 'prefetch[0]: names no image; accepted: images, file, or both'],
    [
      '- { schedule: "61 3 * * *", images: [a] }',
      'prefetch[0].schedule: found "61 3 * * *"; accepted: a cron expression',
    ],
    ['- { schedule: "0 0 30 2 *", images: [a] }', 'accepted: a cron expression that comes again'],
    ['- { schedule: 5, images: [a] }', 'prefetch[0].schedule: found 5'],
    ['- { every: 10ms, images: [a] }', 'prefetch[0].every: found "10ms"; accepted: a duration of at least 1000ms'],
    [
      '- { every: 1h, images: [{ name: a, tag: b }] }',
      'unknown key "tag" in prefetch[0].images[0]; did you mean "tags"?',
    ],
  ])('%s is refused', async (entry, problem) => {
    expect(await problemsOf(`prefetch:\n  ${entry}\n`)).toEqual([expect.stringContaining(problem)]);
  });

  test('knows its next time', () => {
    const now = new Date(2026, 2, 1, 12, 30).getTime();
    const at = (expression: string) => new Date(nextTime({ kind: 'cron', expression }, now));
    expect(at('0 3 * * *')).toEqual(new Date(2026, 2, 2, 3, 0));
    expect(at('45 * * * *')).toEqual(new Date(2026, 2, 1, 12, 45));
    expect(at('30 12 * * *')).toEqual(new Date(2026, 2, 2, 12, 30));
    expect(nextTime({ kind: 'every', everyMs: 5000 }, now)).toBe(now + 5000);
  });
});
