import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { launcher } from './spawn.ts';

const lost = /^millpond_log_lines_lost_total (\d+)$/m;

test.each(['a full disk', 'a reader that is gone'])(
  'a mirror that logs to %s serves, reloads and stops',
  async (where) => {
    await using directory = await temporaryDirectory('log-lost');
    await using full = await open('/dev/full', 'w');
    const config = { listen: '127.0.0.1:0', cache: { dir: join(directory.path, 'data'), minFree: '1B' } };
    await writeFile(join(directory.path, 'millpond.yaml'), JSON.stringify(config));
    const mirror = spawn(launcher, ['serve', '--config', 'millpond.yaml'], {
      cwd: directory.path,
      stdio: ['ignore', where === 'a full disk' ? full.fd : 'pipe', 'inherit'],
    });
    const ended = once(mirror, 'exit');
    await using stack = new AsyncDisposableStack();
    stack.defer(async () => {
      mirror.kill('SIGKILL');
      await ended;
    });
    mirror.stdout?.destroy();

    const status = async () => await runCommand(['status', '--json', '--config', 'millpond.yaml'], directory.path);
    await expect.poll(status).toMatchObject({ code: 0 });
    const { address } = JSON.parse((await status()).stdout) as { address: string };
    const lostLines = async () => Number(lost.exec((await get(`http://${address}/metrics`)).body.toString())?.[1]);
    // The first line is that it listens.
    await expect.poll(lostLines).toBeGreaterThan(0);
    const before = await lostLines();
    mirror.kill('SIGHUP');
    await expect.poll(lostLines).toBeGreaterThan(before);
    expect(await get(`http://${address}/healthz`)).toMatchObject({ status: 200 });
    mirror.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
  },
);
