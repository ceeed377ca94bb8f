import { Command, CommanderError, Option } from 'commander';
import type { ByteStream } from '../archive/stream-output.ts';
import type { ConfigFlags } from '../config/load.ts';
import type { ProgressOutput } from './progress.ts';

export type { Command };

/** The parts of the process that a command may use. */
export interface CommandIo {
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly stdout: ProgressOutput & ByteStream;
  readonly stderr: ProgressOutput;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
}

/** Adds one command (with its subcommands, flags and action) to the program. */
export type RegisterCommand = (program: Command, io: CommandIo) => void;

/** The command line was not understood; exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Creates the program without commands. It throws its errors instead of printing them, and never ends the process. */
export function createProgram(name: string, io: CommandIo): Command {
  return new Command(name)
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: () => undefined,
      outputError: () => undefined,
    });
}

/**
 * Adds the options that every command with a configuration has; read them with {@link configFlags}. Options that only
 * matter to a mirror are accepted too, so that a script can pass the same to all commands, but are hidden in the help.
 */
export function addConfigFlags(command: Command): Command {
  return addFlags(command, { showsAll: false });
}

/** As {@link addConfigFlags}, for commands that use all of them. */
export function addMirrorFlags(command: Command): Command {
  return addFlags(command, { showsAll: true });
}

function addFlags(command: Command, { showsAll }: { readonly showsAll: boolean }): Command {
  const ofMirror = (flag: string, what: string): Option => new Option(flag, what).hideHelp(!showsAll);
  return command
    .option('--config <file>', 'configuration file (default: ./millpond.yaml if it exists)')
    .addOption(ofMirror('--listen <address>', 'address and port to serve on, such as 127.0.0.1:5000'))
    .option('--cache-dir <directory>', 'directory of the cache')
    .addOption(ofMirror('--redis <url>', 'the Redis that replicas share, such as redis://127.0.0.1:6379'))
    .addOption(ofMirror('--log-level <level>', 'trace, debug, info, warn, error, fatal, silent'));
}

/** The values of the options of {@link addConfigFlags}. */
export function configFlags(command: Command): ConfigFlags {
  return command.opts<ConfigFlags>();
}

/**
 * Runs the program on a command line.
 * @throws UsageError, and whatever the command's action throws
 */
export async function runCommandLine(program: Command, args: readonly string[]): Promise<void> {
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Requested help has been printed and is a success.
    if (error.exitCode === 0) return;
    // Commander reports a missing subcommand this way.
    if (error.code === 'commander.help') throw new UsageError('a command is missing', { cause: error });
    throw new UsageError(error.message.replace(/^error: /, '').replaceAll('\n', ' '), { cause: error });
  }
}
