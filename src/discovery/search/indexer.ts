import type { HostedChange } from '../../hosted/changes.ts';
import type { HostedRegistry } from '../../hosted/hosted-registry.ts';
import type { Digest } from '../../oci/digest.ts';
import type { Catalog } from '../../store/catalog/catalog.ts';
import type { Layout } from '../../store/files/layout.ts';
import { CachedEntries } from './cached-entries.ts';
import type { IndexChange } from './entry.ts';
import { HostedEntries } from './hosted-entries.ts';
import type { IndexThread } from './index-thread.ts';

/** How often the index is brought in line with what has changed, in milliseconds. */
const everyMs = 250;
/** How long it is left alone after a failure, such as a full disk, in milliseconds. */
const afterFailureMs = 30_000;
/** Manifests that are read from the catalog, or handed to the thread, in one go: a few milliseconds for either. */
const batch = 25;
/** Entries that a pass removes in one go. */
const removedAtOnce = 200;
/** Most names whose pulls are counted between two looks; more are left out. */
const maxPulledNames = 20_000;

export interface IndexerOptions {
  readonly catalog: Catalog;
  readonly layout: Pick<Layout, 'blob'>;
  readonly hosted: HostedRegistry | undefined;
  readonly thread: IndexThread;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Receives failures; the index is brought in line again later. */
  readonly onError: (error: unknown) => void;
}

/**
 * Keeps the search index in line with the catalog and the hosted repositories, a little at a time. It begins with a pass over
 * everything, since the index does not know what has changed while it was closed, and goes on with what changes.
 */
export class Indexer implements AsyncDisposable {
  readonly #options: IndexerOptions;
  readonly #cached: CachedEntries;
  readonly #hosted: HostedEntries | undefined;
  readonly #pulls = new Map<string, IndexChange & { readonly kind: 'pulled' }>();
  readonly #stopping = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #firstPass = Promise.withResolvers<void>();
  /** How often the catalog had been replaced when the last pass began; `undefined`: there was none. */
  #passedAt: number | undefined;
  #isComplete = false;

  constructor(options: IndexerOptions) {
    this.#options = options;
    this.#cached = new CachedEntries(options);
    this.#hosted = options.hosted && new HostedEntries(options.hosted);
  }

  /** Whether the index has been in line with everything once. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Begins to watch what changes, and looks again and again. @param delayMs until the first look */
  start(delayMs: number): void {
    this.#options.catalog.changes.watch();
    this.#timer = setTimeout(() => void this.look(), delayMs).unref();
  }

  /** Brings the index in line with what has changed. Never throws. */
  look(): Promise<void> {
    clearTimeout(this.#timer);
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      if (this.#stopping.signal.aborted) return;
      // The changes that were taken are lost with a failure: the next pass goes over everything.
      const waitMs = this.#passedAt === undefined ? afterFailureMs : everyMs;
      this.#timer = setTimeout(() => void this.look(), waitMs).unref();
    });
    return this.#running;
  }

  /** Waits until the index has been in line with everything once. @throws the signal's reason */
  async ready(signal: AbortSignal): Promise<void> {
    if (this.#isComplete) return;
    void this.look();
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = () => reject(signal.reason as Error);
    signal.throwIfAborted();
    signal.addEventListener('abort', abort, { once: true });
    try {
      await Promise.race([this.#firstPass.promise, promise]);
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** A tag or digest of a repository has been pulled. */
  pulled(repository: string, reference: string): void {
    const key = `${repository} ${reference}`;
    const before = this.#pulls.get(key);
    if (before === undefined && this.#pulls.size >= maxPulledNames) return;
    const name = { repository, reference };
    this.#pulls.set(key, { kind: 'pulled', name, count: (before?.count ?? 0) + 1, atMs: this.#options.now() });
  }

  hostedChanged(change: HostedChange): void {
    this.#hosted?.note(change);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    this.#stopping.abort();
    await this.#running;
    clearTimeout(this.#timer);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      const { renewals } = this.#options.catalog.changes;
      if (this.#passedAt !== renewals) {
        await this.#pass(signal);
        this.#passedAt = renewals;
      }
      await this.#followChanges(signal);
      if (this.#isComplete) return;
      this.#isComplete = true;
      this.#firstPass.resolve();
    } catch (error) {
      this.#passedAt = undefined;
      if (!signal.aborted) this.#options.onError(error);
    }
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { thread } = this.#options;
    await thread.ask('beginPass', null);
    for (const digests of this.#cached.all(batch)) {
      signal.throwIfAborted();
      await thread.ask('apply', await this.#changesOf(digests, signal));
    }
    for await (const changes of this.#hosted?.all(batch) ?? []) {
      signal.throwIfAborted();
      await thread.ask('apply', changes);
    }
    while (await thread.ask('endPass', removedAtOnce)) signal.throwIfAborted();
  }

  async #changesOf(digests: readonly Digest[], signal: AbortSignal): Promise<IndexChange[]> {
    const changes: IndexChange[] = [];
    for (const digest of digests) changes.push(await this.#cached.changeOf(digest, signal));
    return changes;
  }

  async #followChanges(signal: AbortSignal): Promise<void> {
    const { catalog, thread } = this.#options;
    for (;;) {
      signal.throwIfAborted();
      const cached = await this.#changesOf(catalog.changes.take(batch), signal);
      const hosted = (await this.#hosted?.take(batch)) ?? [];
      const pulls = [...this.#pulls.values()].slice(0, batch);
      for (const { name } of pulls) this.#pulls.delete(`${name.repository} ${name.reference}`);
      const changes: readonly IndexChange[] = [...cached, ...hosted, ...pulls];
      if (changes.length === 0) return;
      await thread.ask('apply', changes);
    }
  }
}
