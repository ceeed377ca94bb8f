import { Readable } from 'node:stream';
import { runProgram } from '../../src/cli/program.ts';

/** What a command has left behind. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command line of Millpond in this process. */
export async function runCommand(args: readonly string[], workingDirectory: string): Promise<CommandResult> {
  let stdout = '';
  let stderr = '';
  const code = await runProgram(args, {
    stdout: { write: (text) => void (stdout += text) },
    stderr: { write: (text) => void (stderr += text) },
    stdin: Readable.from([]),
    environment: {},
    workingDirectory,
  });
  return { code, stdout, stderr };
}
