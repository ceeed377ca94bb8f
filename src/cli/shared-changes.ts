import type { Coordinator, Message, MessageListener } from '../coordination/coordinator.ts';
import { Administration } from '../mirror/administration.ts';
import { isDigest } from '../oci/digest.ts';
import type { Logger } from '../telemetry.ts';
import type { Cache } from './cache.ts';
import { administrationObserver, described } from './observers.ts';

/** What other replicas have done, done here too: pauses that upstreams ask for, what operators remove and pin. */
export class SharedChanges implements MessageListener, AsyncDisposable {
  readonly #cache: Cache;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #subscription: Disposable;
  /** One after another, in the order in which they were sent. */
  #last: Promise<void> = Promise.resolve();

  constructor({ cache, coordinator, log }: { cache: Cache; coordinator: Coordinator; log: Logger }) {
    this.#cache = cache;
    this.#log = log;
    this.#subscription = coordinator.subscribe(this);
  }

  received(message: Message, { from, ageMs }: { from: string; ageMs: number }): void {
    const { upstreams, catalog } = this.#cache;
    switch (message.kind) {
      case 'limit': {
        const { upstream: name, forMs, ...place } = message;
        upstreams.all.find((upstream) => upstream.name === name)?.pause({ ...place, forMs: forMs - ageMs });
        return;
      }
      case 'pin':
        catalog.pin(message.repository, message.reference);
        this.#log.info({ repository: message.repository, reference: message.reference, from }, 'image pinned');
        return;
      case 'unpin':
        catalog.unpin(message.repository, message.reference);
        this.#log.info({ repository: message.repository, reference: message.reference, from }, 'image unpinned');
        return;
      case 'purge':
        this.#last = this.#last.then(() => this.#purge(message, from));
        return;
      case 'tag':
        return;
      default:
        return message satisfies never;
    }
  }

  missed(): void {
    this.#log.info('messages of other replicas may have been missed: tags are confirmed anew');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]();
    this.#stop.abort();
    await this.#last;
  }

  async #purge({ repository, reference }: { repository: string; reference: string }, from: string): Promise<void> {
    const { catalog, store, mirror, upstreams } = this.#cache;
    const image = `${repository}${isDigest(reference) ? '@' : ':'}${reference}`;
    try {
      const administration = new Administration({
        catalog,
        store,
        downloads: mirror.downloads,
        upstreams: upstreams.table,
        observer: administrationObserver(this.#log),
      });
      // Whether a pin is in its way was decided where it was removed first.
      const removal = administration.remove({ images: [image], force: true, dryRun: false }, this.#stop.signal);
      for await (const event of removal)
        this.#log.debug({ image, from, event: event.kind }, 'removed by another replica');
    } catch (error) {
      if (!this.#stop.signal.aborted)
        this.#log.error({ image, error: described(error) }, 'removal by another replica failed');
    }
  }
}
