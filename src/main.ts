import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

// Code that is compiled already starts faster and takes less memory. Nothing but existing folders is written to.
const cacheFolder = fileURLToPath(new URL('../node_modules/.cache', import.meta.url));
if (existsSync(cacheFolder)) enableCompileCache(`${cacheFolder}/compiled`);
// What is imported before the cache is on does not come from it.
const { runProgram } = await import('./cli/program.ts');

// A reader that has seen enough (`millpond config show | head`) is no failure, unless the command says so: an archive has
// to be read to its end, and whoever writes one is told of the error, too.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  setImmediate(() => process.exit(process.exitCode ?? 0));
});

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
