import process from 'node:process';
import { quickenImports } from './cli/imports.ts';

// The first import of node:http reads all that it exports, and one getter there loads Node's WebSocket with a second HTTP
// client: 45 ms and 15 MB of a start, for what nothing here uses.
const http = process.getBuiltinModule('node:http');
for (const name of ['WebSocket', 'CloseEvent', 'MessageEvent']) Object.defineProperty(http, name, { value: undefined });
quickenImports();
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
