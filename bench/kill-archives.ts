// Kills millpond import and export with SIGKILL at random moments: node bench/kill-archives.ts [COUNT] [SEED]
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killArchiveCommand } from '../test/e2e/kill/archives.ts';

const [count = 50, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
if (!(count >= 1) || !Number.isSafeInteger(seed)) throw new Error('usage: node bench/kill-archives.ts [COUNT] [SEED]');
for (const command of ['import', 'export'] as const) {
  const directory = await mkdtemp(join(tmpdir(), 'millpond-kill-'));
  console.log(`${command}: ${count} times, seed ${seed}`);
  const report = await killArchiveCommand({ command, count, seed, directory, onKill: (line) => console.log(line) });
  const { violations, ...figures } = report;
  console.log(figures);
  if (violations.length === 0) {
    await rm(directory, { recursive: true, force: true });
    console.log('nothing was wrong');
  } else {
    console.log(`WRONG, see ${directory}:\n${violations.join('\n')}`);
    process.exitCode = 1;
  }
}
