import { ConfigError } from '../config/problems.ts';
import { readVersion } from '../site/version.ts';
import {
  type Command,
  type CommandIo,
  createProgram,
  type RegisterCommand,
  runCommandLine,
  UsageError,
} from './command.ts';

interface LazyCommand {
  readonly name: string;
  readonly summary: string;
  /** Imports the command's file, so that a command does not load the libraries of others. */
  readonly load: () => Promise<RegisterCommand>;
}

const commands: readonly LazyCommand[] = [
  {
    name: 'serve',
    summary: 'run the mirror',
    load: async () => (await import('./serve.ts')).registerServe,
  },
  {
    name: 'status',
    summary: 'show a running mirror',
    load: async () => (await import('./status.ts')).registerStatus,
  },
  {
    name: 'explain',
    summary: 'explain what an image name gets',
    load: async () => (await import('./explain.ts')).registerExplain,
  },
  {
    name: 'probe',
    summary: 'walk through what a pull does at an upstream',
    load: async () => (await import('./probe.ts')).registerProbe,
  },
  {
    name: 'export',
    summary: 'write stored images into an archive',
    load: async () => (await import('./export.ts')).registerExport,
  },
  {
    name: 'import',
    summary: 'load images from an archive into the cache',
    load: async () => (await import('./import.ts')).registerImport,
  },
  {
    name: 'fetch',
    summary: 'fetch complete images into the cache',
    load: async () => (await import('./fetch.ts')).registerFetch,
  },
  {
    name: 'ls',
    summary: 'list stored images',
    load: async () => (await import('./ls.ts')).registerLs,
  },
  {
    name: 'search',
    summary: 'find images and artifacts',
    load: async () => (await import('./search.ts')).registerSearch,
  },
  {
    name: 'rm',
    summary: 'remove images from the cache',
    load: async () => (await import('./rm.ts')).registerRm,
  },
  {
    name: 'pin',
    summary: 'exempt images from eviction',
    load: async () => (await import('./pin.ts')).registerPin,
  },
  {
    name: 'unpin',
    summary: 'remove pins',
    load: async () => (await import('./pin.ts')).registerUnpin,
  },
  {
    name: 'key',
    summary: 'make, list and remove API keys',
    load: async () => (await import('./key.ts')).registerKey,
  },
  {
    name: 'approve',
    summary: 'release images that are held for scanning',
    load: async () => (await import('./hold.ts')).registerApprove,
  },
  {
    name: 'reject',
    summary: 'refuse images that are held for scanning',
    load: async () => (await import('./hold.ts')).registerReject,
  },
  {
    name: 'verify',
    summary: 'check stored content',
    load: async () => (await import('./verify.ts')).registerVerify,
  },
  {
    name: 'config',
    summary: 'check, show or describe the configuration',
    load: async () => (await import('./config.ts')).registerConfig,
  },
];

/**
 * Runs one command line (without the program's own name).
 * @returns the exit code: 0 for success, 1 for failure, 2 for wrong usage; errors are on `io.stderr`
 */
export async function runProgram(args: readonly string[], io: CommandIo): Promise<number> {
  try {
    const program = createProgram('millpond', io)
      .description('A pull-through caching mirror for OCI and Docker registries.')
      .version(await readVersion(), '--version');
    await registerCommands(program, args, io);
    await runCommandLine(program, args);
    return 0;
  } catch (error) {
    io.stderr.write(`${describeFailure(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function registerCommands(program: Command, args: readonly string[], io: CommandIo): Promise<void> {
  const wanted = args.find((arg) => !arg.startsWith('-') && arg !== 'help');
  for (const { name, summary, load } of commands) {
    if (name === wanted) (await load())(program, io);
    else program.command(name).description(summary);
  }
}

function describeFailure(error: unknown): string {
  // These lines begin with the file and line, for editors and people to jump to.
  if (error instanceof ConfigError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  const hint = error instanceof UsageError ? ' (see "millpond --help")' : '';
  // Foreign text must not control the terminal.
  return `millpond: ${message.replaceAll('\n', ' ').replaceAll(/\p{Cc}/gu, '?')}${hint}`;
}
