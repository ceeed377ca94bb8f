import { type LoadedConfig, loadConfig } from '../config/load.ts';
import { ConfigError } from '../config/problems.ts';
import { type Site, startSite } from '../site/site.ts';
import { createLogger, type Logger } from '../telemetry.ts';
import { addMirrorFlags, type Command, type CommandIo, configFlags } from './command.ts';

/** `millpond serve`: runs the mirror until it is told to stop. */
export function registerServe(program: Command, io: CommandIo): void {
  addMirrorFlags(program.command('serve'))
    .description('run the mirror')
    .action(async (_options, command: Command) => {
      const load = () =>
        loadConfig({
          flags: configFlags(command),
          environment: io.environment,
          workingDirectory: io.workingDirectory,
        });
      const { config, file } = await load();
      const log = createLogger(config.log);
      try {
        const site = await startSite(config, { log, requestLog: log.requestLog, lostLines: log.lostLines });
        const hangUp = () => void reload(site, { load, log });
        process.on('SIGHUP', hangUp);
        log.info({ address: site.address, cacheDir: config.cache.dir, config: file ?? 'defaults' }, 'listening');
        log.flush();
        const signal = await stopSignal();
        process.removeListener('SIGHUP', hangUp);
        log.info({ signal, drainMs: config.timeouts.drainMs }, 'stopping');
        log.flush();
        await site.stop();
        log.info('stopped');
      } finally {
        log.flush();
      }
    });
}

/** Takes the configuration as it is now; one that cannot be used changes nothing. Never rejects. */
async function reload(
  site: Site,
  { load, log }: { load: () => Promise<LoadedConfig>; log: Logger & { flush(): void } },
): Promise<void> {
  try {
    const { config } = await load();
    const needRestart = site.reload(config);
    for (const key of needRestart) log.warn({ key }, 'changed in the configuration, needs a restart');
    log.info('configuration taken anew');
  } catch (error) {
    const problems =
      error instanceof ConfigError ? error.problems : [error instanceof Error ? error.message : 'unknown'];
    for (const problem of problems) log.error({ problem }, 'configuration refused, nothing has changed');
  }
  log.flush();
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
