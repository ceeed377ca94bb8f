import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { Metrics } from '../src/telemetry.ts';

const run = promisify(execFile);
const telemetry = join(import.meta.dirname, '../src/telemetry.ts');

/** What a program of its own logs on standard output. */
async function logged(options: object, work: string): Promise<string[]> {
  const program = `import { createLogger } from ${JSON.stringify(telemetry)};
    const log = createLogger(${JSON.stringify(options)}); ${work}`;
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', program]);
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
