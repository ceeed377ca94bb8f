import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { Slabs } from '../../src/memory/slabs.ts';
import { startSite } from '../../src/site/site.ts';
import { type GetOptions, get, type Reply } from './client.ts';

export interface SiteOptions {
  /** Upstreams by name; a string or anything with an `origin` stands for that URL. */
  readonly upstreams: Readonly<Record<string, UpstreamEntry>>;
  /** Any other part of the configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** A cache directory that outlives the site; absent: one of its own. */
  readonly cacheDir?: string;
  /** Wall clock of the mirror in milliseconds (default: the real one). */
  readonly now?: () => number;
  /** How long Redis may take for an answer before it is taken for lost, in milliseconds (default: as users have it). */
  readonly redisDeadlineMs?: number;
  /** False: each request is decided, however often it was answered before (default true). */
  readonly keepsAnswers?: boolean;
  /** False: nothing is logged, and {@link TestSite.logLines} stays empty (default true). */
  readonly keepsLog?: boolean;
}

type UpstreamEntry = { readonly origin: string } | Readonly<Record<string, unknown>>;

/** Configuration of a mirror whose upstream does not answer before the test lets it, however long that takes. */
export const patient = { timeouts: { headers: '10m', answer: '10m' } };

/** A mirror in this process, with its own cache directory and port. */
export interface TestSite extends AsyncDisposable {
  readonly origin: string;
  readonly cacheDir: string;
  /** Every line logged so far. */
  readonly logLines: readonly Record<string, unknown>[];
  get(path: string, options?: GetOptions): Promise<Reply>;
  head(path: string, options?: GetOptions): Promise<Reply>;
  /** Puts another configuration in force, as SIGHUP does. @param config all but the upstreams */
  reconfigure(config: Readonly<Record<string, unknown>>): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a mirror the way `millpond serve` does, from a configuration file. */
export async function startTestSite(options: SiteOptions): Promise<TestSite> {
  await using owned = new AsyncDisposableStack();
  const folder = await temporaryFolder();
  owned.use(folder);
  const cacheDir = options.cacheDir ?? join(folder.path, 'cache');
  const file = join(folder.path, 'millpond.yaml');
  const upstreams = Object.fromEntries(
    Object.entries(options.upstreams).map(([name, entry]) => [
      name,
      'origin' in entry ? { urls: [entry.origin] } : entry,
    ]),
  );
  const load = async ({ cache, ...rest }: Readonly<Record<string, unknown>>) => {
    const parts = { cache: { dir: cacheDir, minFree: '1B', ...(cache as object) }, ...rest };
    // Front threads have clocks of their own.
    const serve = { threads: 1, ...(rest['serve'] as object) };
    // A body that a test holds is not asked for again, however long a busy machine takes until it is let go.
    const timeouts = { idle: '10m', ...(rest['timeouts'] as object) };
    await writeFile(file, stringify({ listen: '127.0.0.1:0', upstreams, ...parts, serve, timeouts }));
    return await loadConfig({ flags: { config: file }, environment: {}, workingDirectory: folder.path });
  };
  const { config } = await load(options.config ?? {});
  const logLines: Record<string, unknown>[] = [];
  const log = pino(
    { level: options.keepsLog === false ? 'silent' : 'trace' },
    { write: (line) => void logLines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  // Code that read memory that has been given back would send this.
  const slabs = new Slabs({ onFree: (memory) => memory.fill(0xdb) });
  const { now, redisDeadlineMs, keepsAnswers } = options;
  const site = await startSite(config, { log, now, slabs, redisDeadlineMs, keepsAnswers });
  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => (stopping ??= site.stop());
  owned.defer(stop);
  const origin = `http://${site.address}`;
  const held = owned.move();
  return {
    origin,
    cacheDir,
    logLines,
    get: (path, given) => get(`${origin}${path}`, given),
    head: (path, given) => get(`${origin}${path}`, { ...given, method: 'HEAD' }),
    reconfigure: async (changed) => void (await site.reload((await load(changed)).config)),
    stop,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A folder that is removed at the end. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'millpond-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
