import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const usage = `Usage: npm run fuzz [-- --seconds N] [--seed N] [PART OF A FILE NAME…]

Tries the parsers of what others write with generated inputs: each property for so many seconds
(default: 60). What fails is printed with its seed.`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: 'string', default: '60' }, seed: { type: 'string' }, help: { type: 'boolean' } },
});
if (values.help) {
  console.log(usage);
  process.exit();
}
const seed = values.seed ?? String(Date.now());
console.log(`seed ${seed}`);
const files = positionals.length === 0 ? ['test/fuzz'] : positionals.map((part) => `test/fuzz/${part}`);
const vitest = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', '--testTimeout=0', ...files], {
  cwd: join(import.meta.dirname, '..'),
  stdio: 'inherit',
  env: { ...process.env, MILLPOND_FUZZ_SECONDS: values.seconds, MILLPOND_FUZZ_SEED: seed },
});
vitest.once('close', (code) => (process.exitCode = code ?? 1));
