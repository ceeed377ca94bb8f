import { loadConfig } from '../config/load.ts';
import { createLogger } from '../telemetry.ts';
import { addConfigFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { startSite } from './site.ts';

/** `millpond serve`: runs the mirror until it is told to stop. */
export function registerServe(program: Command, io: CommandIo): void {
  addConfigFlags(program.command('serve'))
    .description('run the mirror')
    .action(async (_options, command: Command) => {
      const { config, file } = await loadConfig({
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      });
      const log = createLogger(config.log);
      try {
        const site = await startSite(config, { log });
        log.info({ address: site.address, cacheDir: config.cache.dir, config: file ?? 'defaults' }, 'listening');
        log.flush();
        const signal = await stopSignal();
        log.info({ signal, drainMs: config.timeouts.drainMs }, 'stopping');
        log.flush();
        await site.stop();
        log.info('stopped');
      } finally {
        log.flush();
      }
    });
}

/** Resolves with the first signal that asks for an end; the second one ends the process at once. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.once(name, () => {
        process.once(name, () => process.exit(1));
        resolve(name);
      });
    }
  });
}
