import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Metrics } from '../src/telemetry/metrics.ts';
import { temporaryDirectory } from './support/temporary-directory.ts';
import { describeWith } from './support/tools.ts';

const run = promisify(execFile);
const telemetry = join(import.meta.dirname, '../src/telemetry/logger.ts');

/** The command line of a program of its own that logs on standard output. */
function logging(options: object, work: string): [string, string[]] {
  const program = `import { createLogger } from ${JSON.stringify(telemetry)};
    const log = createLogger(${JSON.stringify(options)}); ${work}`;
  return [process.execPath, ['--input-type=module', '-e', program]];
}

/** What such a program logs. */
async function logged(options: object, work: string): Promise<string[]> {
  const { stdout } = await run(...logging(options, work));
  return stdout.split('\n').filter((line) => line !== '');
}

describe('the logger', () => {
  test('writes one JSON object a line, with the level by name, and nothing below its level', async () => {
    const lines = await logged(
      { level: 'info', format: 'json' },
      `log.info({ a: 1 }, 'first'); log.debug('hidden'); log.warn('second'); setImmediate(() => log.flush());`,
    );
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: 'info', time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/) as string, a: 1, msg: 'first' },
      { level: 'warn', time: expect.any(String) as string, msg: 'second' },
    ]);
  });

  test('writes text for people where that is asked for', async () => {
    const lines = await logged(
      { level: 'info', format: 'text' },
      `log.warn({ bytes: 12, path: '/v2/', deep: { a: 1 } }, 'request'); setImmediate(() => log.flush());`,
    );
    expect(lines).toEqual([expect.stringMatching(/^\S+Z WARN {2}request bytes=12 path=\/v2\/ deep=\{"a":1\}$/)]);
  });

  test('loses nothing when the process ends by itself', async () => {
    const lines = await logged(
      { level: 'info', format: 'json' },
      `for (let i = 0; i < 500; i += 1) log.info({ i }, 'line');`,
    );
    expect(lines).toHaveLength(500);
  });

  test('leaves out what a full disk does not take, and says so in a line of its own when there is room again', async () => {
    await using directory = await temporaryDirectory('log');
    // A file that may not grow, amid a line, stands for the full disk.
    const [program, args] = logging(
      { level: 'info', format: 'json' },
      `import { setTimeout } from 'node:timers/promises';
       import { statSync, truncateSync } from 'node:fs';
       for (let i = 0; i < 100; i += 1) log.info({ i }, 'line');
       log.flush();
       while (log.lostLines() === 0) await setTimeout(1);
       truncateSync('log', statSync('log').size - 400);
       log.info({ lost: log.lostLines() }, 'room');`,
    );
    const limited = ['-c', 'ulimit -f 2 && exec "$0" "$@" >> log', program, ...args];
    await run('sh', limited, { cwd: directory.path });
    const lines = (await readFile(join(directory.path, 'log'), 'utf8')).trimEnd().split('\n');
    const told = lines.slice(-2).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(told).toMatchObject([
      { level: 'info', msg: 'room' },
      { level: 'warn', msg: 'lines of the log could not be written and are lost', lines: told[0]?.['lost'] },
    ]);
    expect(told[0]?.['lost']).toBeGreaterThan(1);
  });

  test('is not held up by a reader that stands still, nor is the end of the process', async () => {
    const [program, args] = logging(
      { level: 'info', format: 'json' },
      `for (let i = 0; i < 30_000; i += 1) log.info({ i, text: 'x'.repeat(100) }, 'line');
       process.stderr.write(String(log.lostLines()));`,
    );
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = once(child, 'exit');
    const [lost] = (await once(child.stderr, 'data')) as [Buffer];
    expect(Number(String(lost))).toBeGreaterThan(1000);
    expect(await ended).toEqual([0, null]);
    child.stdout.destroy();
  });
});

describeWith(['script'], 'the logger on a terminal', () => {
  test('is held up by one that is stopped as little', async () => {
    const [program, [, , text]] = logging(
      { level: 'info', format: 'json' },
      `import { setTimeout } from 'node:timers/promises';
       while (log.lostLines() === 0) {
         for (let i = 0; i < 1000; i += 1) log.info({ text: 'x'.repeat(100) }, 'line');
         await setTimeout(1);
       }`,
    );
    await using directory = await temporaryDirectory('terminal');
    await writeFile(join(directory.path, 'program.mjs'), text!);
    const child = spawn('script', ['-qec', `${program} program.mjs`, '/dev/null'], { cwd: directory.path });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = once(child, 'exit');
    await once(child.stdout.resume(), 'data');
    // Ctrl-S.
    child.stdin.write('\x13');
    expect(await ended).toEqual([0, null]);
  });
});

describe('metrics', () => {
  test('of two mirrors in one process are apart', async () => {
    const [one, two] = [new Metrics(), new Metrics()];
    one.wrongBytes.inc();
    expect(await one.render()).toMatch(/^millpond_wrong_bytes_total 1$/m);
    expect(await two.render()).toMatch(/^millpond_wrong_bytes_total 0$/m);
  });

  test('have a help text and a name of ours each', async () => {
    const text = await new Metrics().render();
    const typed = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    expect(typed.length).toBeGreaterThan(10);
    for (const name of typed) {
      expect(name).toMatch(/^millpond_/);
      expect(text).toMatch(new RegExp(`^# HELP ${name} \\S`, 'm'));
    }
  });
});
