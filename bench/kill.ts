// Kills millpond serve with SIGKILL at random moments under load and looks at what is left: node bench/kill.ts [COUNT] [SEED]
// With --fetch first, it is millpond fetch that is killed; with --hosted, clients push and delete; with --hosted-fleet, they
// do so through a replica that passes on, and it or the owner is killed.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { killFetches } from '../test/e2e/kill/fetch.ts';
import { killFleetPushes, killPushes } from '../test/e2e/kill/hosted.ts';
import { killAgainAndAgain } from '../test/e2e/kill/run.ts';

const [, , mode = ''] = process.argv;
const runs = { '--fetch': killFetches, '--hosted': killPushes, '--hosted-fleet': killFleetPushes };
const run = Object.hasOwn(runs, mode) ? runs[mode as keyof typeof runs] : killAgainAndAgain;
const [count = 200, seed = Date.now() % 1_000_000] = process.argv.slice(run === killAgainAndAgain ? 2 : 3).map(Number);
if (!(count >= 1) || !Number.isSafeInteger(seed))
  throw new Error('usage: node bench/kill.ts [--fetch | --hosted | --hosted-fleet] [COUNT] [SEED]');
const directory = await mkdtemp(join(tmpdir(), 'millpond-kill-'));
const startMs = performance.now();
console.log(`${count} kills, seed ${seed}`);
const options = { count, seed, directory, onKill: (line: string) => console.log(line) };
const report = await run(options);
const { violations, ...figures } = report;
console.log({ ...figures, seconds: Math.round((performance.now() - startMs) / 1000) });
if (violations.length === 0) {
  await rm(directory, { recursive: true, force: true });
  console.log('nothing was wrong');
} else {
  console.log(`WRONG, see ${directory}:\n${violations.join('\n')}`);
  process.exitCode = 1;
}
