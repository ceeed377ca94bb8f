import { Readable } from 'node:stream';
import { runProgram } from '../../src/cli/program.ts';

/** What a command has left behind. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stdoutBytes: Buffer;
  readonly stderr: string;
}

/** Runs a command line of Millpond in this process. */
export async function runCommand(args: readonly string[], workingDirectory: string): Promise<CommandResult> {
  const written: Uint8Array[] = [];
  let stderr = '';
  const code = await runProgram(args, {
    stdout: {
      write: (chunk: string | Uint8Array, done?: () => void) => {
        // Whoever has been told that they are gone may use the bytes again.
        written.push(Buffer.from(chunk as string));
        done?.();
      },
    },
    stderr: { write: (text) => void (stderr += text) },
    stdin: Readable.from([]),
    environment: {},
    workingDirectory,
  });
  const stdoutBytes = Buffer.concat(written);
  return { code, stdout: stdoutBytes.toString('utf8'), stderr, stdoutBytes };
}
