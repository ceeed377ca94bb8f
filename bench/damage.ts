// Damages stored files at random under load and looks at what clients get and what is left: node bench/damage.ts [COUNT] [SEED]
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { damageUnderLoad } from '../test/e2e/damage.ts';

const [count = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
if (!(count >= 1) || !Number.isSafeInteger(seed)) throw new Error('usage: node bench/damage.ts [COUNT] [SEED]');
const directory = await mkdtemp(join(tmpdir(), 'millpond-damage-'));
const startMs = performance.now();
console.log(`${count} files, seed ${seed}`);
const { violations, ...figures } = await damageUnderLoad({ count, seed, directory });
console.log({ ...figures, seconds: Math.round((performance.now() - startMs) / 1000) });
if (violations.length === 0) {
  await rm(directory, { recursive: true, force: true });
  console.log('nothing was wrong');
} else {
  console.log(`WRONG, see ${directory}:\n${violations.join('\n')}`);
  process.exitCode = 1;
}
