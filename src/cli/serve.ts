import type { Config } from '../config/config.ts';
import { type ConfigSources, loadConfig } from '../config/load.ts';
import { loadConfigApart } from '../config/load-apart.ts';
import { ConfigError } from '../config/problems.ts';
import { EventLoop } from '../site/event-loop.ts';
import type { Site } from '../site/running-site.ts';
import { startSite } from '../site/site.ts';
import { readVersion } from '../site/version.ts';
import { createLogger, type ProgramLogger } from '../telemetry/logger.ts';
import { addMirrorFlags, type Command, type CommandIo, configFlags } from './command.ts';
import { endProcess } from './ending.ts';
import { welcome } from './welcome.ts';

/**
 * A signal within this time of the first is the same wish: on Ctrl-C the terminal and npm both send one, in milliseconds.
 */
const sameWishMs = 1_000;

/** `millpond serve`: runs the mirror until a signal stops it. */
export function registerServe(program: Command, io: CommandIo): void {
  addMirrorFlags(program.command('serve'))
    .description('run the mirror')
    .action(async (_options, command: Command) => {
      // From here on a hang-up never ends the process.
      using hangUps = new HangUps();
      const sources: ConfigSources = {
        flags: configFlags(command),
        environment: io.environment,
        workingDirectory: io.workingDirectory,
      };
      const { config, file, origins } = await loadConfig(sources);
      const isTerminal = io.stdout.isTTY === true;
      // To a person at a terminal a log of JSON says little; a format that was chosen stays.
      const isFree = isTerminal && origins.of(['log', 'format']).kind === 'default';
      const log = createLogger({ ...config.log, ...(isFree && { format: 'text' }) });
      try {
        await using eventLoop = new EventLoop({ log });
        const { requestLog, lostLines } = log;
        const site = await startSite(config, { log, requestLog, lostLines, eventLoop });
        const stopping = stopSignal();
        log.info({ address: site.address, cacheDir: config.cache.dir, config: file ?? 'defaults' }, 'listening');
        log.flush();
        eventLoop.start();
        if (isFree) io.stdout.write(welcome(config, { address: site.address, version: await readVersion() }));
        hangUps.answer(() => reload(site, { load: () => loadConfigApart(sources), log }));
        const signal = await stopping;
        hangUps.answer(undefined);
        log.info({ signal, drainMs: config.timeouts.drainMs }, 'stopping');
        log.flush();
        await site.stop();
        log.info('stopped');
      } finally {
        log.flush();
      }
    });
}

/** Hears SIGHUP, also while nothing can be done about it; one that comes before is answered as soon as that is possible. */
class HangUps implements Disposable {
  #answer: (() => Promise<void>) | undefined;
  #isWaiting = false;
  #isBusy = false;
  readonly #heard = (): void => {
    this.#isWaiting = true;
    void this.#next();
  };

  constructor() {
    process.on('SIGHUP', this.#heard);
  }

  /** @param answer never rejects; `undefined`: nothing is done from now on */
  answer(answer: (() => Promise<void>) | undefined): void {
    this.#answer = answer;
    void this.#next();
  }

  [Symbol.dispose](): void {
    process.removeListener('SIGHUP', this.#heard);
  }

  /** One after another; any number that come meanwhile are one. */
  async #next(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#isWaiting && this.#answer) {
      this.#isWaiting = false;
      await this.#answer();
    }
    this.#isBusy = false;
  }
}

/** Puts the configuration as it is now in force; one that cannot be used changes nothing. Never rejects. */
async function reload(
  site: Site,
  { load, log }: { load: () => Promise<{ readonly config: Config }>; log: ProgramLogger },
): Promise<void> {
  try {
    const { config } = await load();
    const { changed, files, restart } = await site.reload(config);
    for (const key of restart) log.warn({ key }, 'changed configuration key needs a restart');
    log.info({ changed, files }, 'configuration reloaded');
  } catch (error) {
    const problems =
      error instanceof ConfigError ? error.problems : [error instanceof Error ? error.message : 'unknown'];
    for (const problem of problems) log.error({ problem }, 'configuration refused, nothing has changed');
  }
  log.flush();
}

/** Resolves with the first signal that asks for an end; another one after a moment ends the process at once. */
function stopSignal(): Promise<string> {
  return new Promise((resolve) => {
    let firstAtMs: number | undefined;
    for (const name of ['SIGTERM', 'SIGINT'] as const) {
      process.on(name, () => {
        const nowMs = performance.now();
        firstAtMs ??= nowMs;
        if (nowMs - firstAtMs > sameWishMs) endProcess(1);
        resolve(name);
      });
    }
  });
}
