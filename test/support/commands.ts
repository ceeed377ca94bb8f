import { Readable } from 'node:stream';
import { runProgram } from '../../src/cli/program.ts';

/** What a command has left behind. */
export interface CommandResult<Output = string> {
  readonly code: number;
  readonly stdout: Output;
  readonly stderr: string;
}

/** Runs a command line of Millpond in this process. */
export async function runCommand(
  args: readonly string[],
  workingDirectory: string,
  stdin?: Uint8Array,
): Promise<CommandResult> {
  const { stdout, ...rest } = await runBinaryCommand(args, workingDirectory, stdin);
  return { ...rest, stdout: stdout.toString('utf8') };
}

/** The same, of one that writes something else than text. */
export async function runBinaryCommand(
  args: readonly string[],
  workingDirectory: string,
  stdin: Uint8Array = Buffer.alloc(0),
): Promise<CommandResult<Buffer>> {
  const written: Uint8Array[] = [];
  let stderr = '';
  const code = await runProgram(args, {
    stdout: {
      write: (chunk: string | Uint8Array, done?: () => void) => {
        // Once they are reported as gone, the bytes may be used again.
        written.push(Buffer.from(chunk as string));
        done?.();
      },
    },
    stderr: { write: (text) => void (stderr += text) },
    stdin: Readable.from(stdin.length === 0 ? [] : [stdin]),
    environment: {},
    workingDirectory,
  });
  return { code, stdout: Buffer.concat(written), stderr };
}
