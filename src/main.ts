import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

// Code that is compiled already starts faster and takes less memory. Nothing but existing folders is written to.
const cacheFolder = fileURLToPath(new URL('../node_modules/.cache', import.meta.url));
if (existsSync(cacheFolder)) enableCompileCache(`${cacheFolder}/compiled`);
// What is imported before the cache is on does not come from it.
const [{ runProgram }, { endSoon }] = await Promise.all([import('./cli/program.ts'), import('./cli/ending.ts')]);

// Work continues when nothing reads its output any more (`millpond fetch … | head`), as if it went to /dev/null: its
// exit code states the result. Output lost for another reason, such as a full disk, turns a success into a failure.
process.stdout.on('error', () => undefined);
process.stdout.once('error', ({ code = 'unknown' }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') return;
  process.on('exit', (exitCode) => {
    if (exitCode !== 0) return;
    process.stderr.write(`millpond: standard output cannot be written: ${code}\n`);
    process.exitCode = 1;
  });
});
process.stderr.on('error', () => undefined);

process.exitCode = await runProgram(process.argv.slice(2), {
  // Opening it has effects of its own: only for a command that reads it.
  get stdin() {
    return process.stdin;
  },
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
  workingDirectory: process.cwd(),
});

endSoon();
