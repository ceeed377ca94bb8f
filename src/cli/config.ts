import { type ConfigSources, loadConfig } from '../config/load.ts';
import { noticesOf } from '../config/notices.ts';
import { editorSchema } from '../config/schema.ts';
import { listSettings, showJson, showYaml } from '../config/show.ts';
import { addMirrorFlags, type Command, type CommandIo, configFlags, UsageError } from './command.ts';

/** `millpond config check`, `config show` and `config schema`. */
export function registerConfig(program: Command, io: CommandIo): void {
  const config = program.command('config').description('check, show or describe the configuration');
  addMirrorFlags(config.command('check'))
    .description('check a configuration; every problem is one line on standard error')
    .argument('[file]', 'the file to check (default: the one that "serve" would use)')
    .action(async (file: string | undefined, _options, command: Command) => {
      await check(file, command, io);
    });
  addMirrorFlags(config.command('show'))
    .description('print the values in effect and their origin, with secrets hidden')
    .option('--json', 'as one JSON object')
    .action(async (options: { readonly json?: true }, command: Command) => {
      const loaded = await loadConfig(sources(command, io));
      const settings = listSettings(loaded);
      io.stdout.write(options.json ? showJson(settings, loaded.file) : showYaml(settings));
    });
  config
    .command('schema')
    .description('print the JSON Schema of the configuration file')
    .action(() => void io.stdout.write(`${JSON.stringify(editorSchema(), undefined, 2)}\n`));
}

async function check(file: string | undefined, command: Command, io: CommandIo): Promise<void> {
  const given = sources(command, io);
  if (file !== undefined && given.flags.config !== undefined && file !== given.flags.config) {
    throw new UsageError('two files to check: give one, as an argument or with --config');
  }
  const loaded = await loadConfig({ ...given, flags: { ...given.flags, config: file ?? given.flags.config } });
  io.stdout.write(
    loaded.file === undefined ? 'no configuration file: the defaults are in force\n' : `${loaded.file} is valid\n`,
  );
  for (const notice of noticesOf(loaded.config)) io.stdout.write(`note: ${notice}\n`);
}

function sources(command: Command, io: CommandIo): ConfigSources {
  return { flags: configFlags(command), environment: io.environment, workingDirectory: io.workingDirectory };
}
