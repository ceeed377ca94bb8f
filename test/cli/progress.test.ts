import { expect, test } from 'vitest';
import { Progress, type ProgressPicture } from '../../src/cli/progress.ts';

const MiB = 2 ** 20;

/** Collects what is written, and what a terminal would show of it. */
function terminal(options: { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number }) {
  const written: string[] = [];
  return {
    ...options,
    written,
    write: (text: string) => void written.push(text),
    /** The lines that are left when all cursor movements have been carried out. */
    screen(): string[] {
      const lines = [''];
      let row = 0;
      for (const [, up, erase, text] of written
        .join('')
        .replaceAll('\x1b', '␛')
        .matchAll(/␛\[(\d+)A|(␛\[J|\r)|([^␛\r]+)/g)) {
        if (up !== undefined) row -= Number(up);
        else if (erase === '␛[J') lines.splice(row, lines.length, '');
        else if (text !== undefined) {
          for (const [index, part] of text.split('\n').entries()) {
            if (index > 0) lines[(row += 1)] ??= '';
            lines[row] += part;
          }
        }
      }
      return lines.slice(0, -1);
    },
  };
}

const picture = (doneBytes: number, extra: Partial<ProgressPicture> = {}): ProgressPicture => ({
  rows: [{ label: 'docker.io/library/nginx:1.27', doneBytes, totalBytes: 100 * MiB }],
  total: { label: '1 image', doneBytes, totalBytes: 100 * MiB },
  ...extra,
});

test('on a terminal rows are drawn over again, with amounts, rate and time left, and lines stay above them', () => {
  let time = 0;
  const output = terminal({ isTTY: true, columns: 120 });
  {
    using progress = new Progress(output, { now: () => time });
    progress.update(() => picture(0));
    time += 1000;
    progress.update(() => picture(10 * MiB));
    progress.line('first\x1b[31m line');
    expect(output.screen()).toEqual([
      'first?[31m line',
      `${'docker.io/library/nginx:1.27'.padEnd(44)} [==                      ] 10MiB of 100MiB`,
      `${'1 image'.padEnd(44)} [==                      ] 10MiB of 100MiB, 10MiB/s, 9 s left`,
    ]);
    time += 50;
    // Too soon after the last one: not even looked at.
    progress.update(() => {
      throw new Error('looked at');
    });
  }
  expect(output.screen()).toEqual(['first?[31m line']);
});

test('no line is longer than the terminal, and no more rows are drawn than fit', () => {
  const output = terminal({ isTTY: true, columns: 60, rows: 8 });
  using progress = new Progress(output, { now: () => 0 });
  const row = { label: `registry.example/${'long/'.repeat(20)}end:1`, doneBytes: 1, totalBytes: 2 };
  progress.update(() => picture(MiB, { rows: Array.from({ length: 20 }, () => row) }));
  expect(output.screen()).toHaveLength(6);
  expect(output.screen()[4]).toBe('and 16 more');
  expect(Math.max(...output.screen().map((line) => line.length))).toBeLessThan(60);
  expect(output.screen()[0]).toContain('long/end:1');
});

test.each([
  [100, `${'1 image'.padEnd(24)} [==                      ] `],
  [80, `${'1 image'.padEnd(16)} [=           ] `],
  [60, `${'1 image'.padEnd(24)} `],
  [37, ''],
])('on a terminal of %i columns the figures of the whole are seen, whatever else is left out', (columns, head) => {
  let time = 0;
  const output = terminal({ isTTY: true, columns });
  using progress = new Progress(output, { now: () => time });
  progress.update(() => picture(0));
  time += 1000;
  progress.update(() => picture(10 * MiB));
  expect(output.screen()[1]).toBe(`${head}10MiB of 100MiB, 10MiB/s, 9 s left`);
});

test('a terminal that says it has no size is taken for one of 80 by 24', () => {
  const output = terminal({ isTTY: true, columns: 0, rows: 0 });
  using progress = new Progress(output, { now: () => 0 });
  progress.update(() => picture(MiB));
  expect(output.screen()).toHaveLength(2);
  expect(output.screen()[0]).toContain('nginx:1.27');
});

test('elsewhere there are plain lines only, one at each tenth that is reached', () => {
  let time = 0;
  const output = terminal({});
  using progress = new Progress(output, { now: () => time });
  for (const done of [0, 5, 15, 19, 47, 100]) {
    progress.update(() => picture(done * MiB));
    time += 1000;
  }
  progress.line('docker.io/library/nginx:1.27 is here');
  expect(output.written.join('').split('\n')).toEqual([
    '10 %, 15MiB of 100MiB, 7.5MiB/s, 11 s left',
    '40 %, 47MiB of 100MiB, 12MiB/s, 4 s left',
    '100 %, 100MiB of 100MiB, 20MiB/s',
    'docker.io/library/nginx:1.27 is here',
    '',
  ]);
});

test('progress and results go to different places, and what is small has no progress there', () => {
  const [progress, results] = [terminal({}), terminal({})];
  for (const totalBytes of [63 * MiB, 100 * MiB]) {
    using shown = new Progress(progress, { now: () => 0, lines: results });
    shown.update(() => ({ rows: [], total: { label: 'in all', doneBytes: totalBytes, totalBytes } }));
    shown.line(`${totalBytes} here`);
  }
  expect(progress.written).toEqual(['100 %, 100MiB of 100MiB\n']);
  expect(results.written).toEqual([`${63 * MiB} here\n`, `${100 * MiB} here\n`]);
});
