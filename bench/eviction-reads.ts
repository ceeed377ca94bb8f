// Lets clients read while everything is evicted again and again: node bench/eviction-reads.ts [TIMES] [SEED]
import { readWhileEvicting } from '../test/e2e/eviction/readers.ts';

const [evictions = 1000, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number);
if (!(evictions >= 1) || !Number.isSafeInteger(seed)) {
  throw new Error('usage: node bench/eviction-reads.ts [TIMES] [SEED]');
}
const startMs = performance.now();
console.log(`${evictions} evictions, seed ${seed}`);
const { violations, ...figures } = await readWhileEvicting({
  evictions,
  seed,
  clients: 6,
  onProgress: (line) => console.log(line),
});
console.log({ ...figures, seconds: Math.round((performance.now() - startMs) / 1000) });
console.log(violations.length === 0 ? 'nothing was wrong' : `WRONG:\n${violations.join('\n')}`);
process.exitCode = violations.length === 0 ? 0 : 1;
