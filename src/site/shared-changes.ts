import type { Change, Coordinator, Message, MessageListener } from '../coordination/coordinator.ts';
import type { Membership } from '../coordination/fleet.ts';
import { newReplicaId } from '../coordination/members.ts';
import { isDigest } from '../oci/digest.ts';
import { Administration } from '../operations/owner/administration/administration.ts';
import type { Logger } from '../telemetry/logger.ts';
import { administrationReport } from './administration-report.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';

const idNote = 'id among the replicas';
const positionNote = 'heard of other replicas';
const untoldNote = 'other replicas have to hear';
/** How often the position is noted where nothing happens, in milliseconds. */
const noteEveryMs = 10_000;

/** Repeats here what happened at other replicas: pauses that upstreams asked for, images that operators removed or pinned. */
export class SharedChanges implements MessageListener, AsyncDisposable {
  readonly #cache: Cache;
  readonly #coordinator: Coordinator;
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #subscription: Disposable;
  /** One after another, in the order in which they were sent. */
  #last: Promise<void> = Promise.resolve();
  /** How many are not done yet. */
  #waiting = 0;
  readonly #noting: NodeJS.Timeout;

  constructor({ cache, coordinator, log }: { cache: Cache; coordinator: Coordinator; log: Logger }) {
    this.#cache = cache;
    this.#coordinator = coordinator;
    this.#log = log;
    this.#subscription = coordinator.subscribe(this);
    this.#noting = setInterval(() => this.#note(), noteEveryMs);
  }

  /** What the replica with this cache is known by from now on, and how far its last run and the others had heard each other. */
  takeUp(): Membership {
    const { catalog } = this.#cache;
    const id = catalog.notes.get(idNote) ?? newReplicaId();
    catalog.notes.set(idNote, id);
    return {
      id,
      position: catalog.notes.get(positionNote),
      untold: catalog.notes.get(untoldNote),
      keepUntold: (untold) => {
        // What is announced after the end is announced again by the next run, which changes nothing.
        if (this.#stop.signal.aborted) return;
        // At once: the operator is answered next, and this process may be killed then.
        catalog.together(() => catalog.notes.set(untoldNote, untold));
      },
    };
  }

  received(message: Message, { from, ageMs }: { from: string; ageMs: number }): void {
    switch (message.kind) {
      case 'limit': {
        const { upstream: name, forMs, ...place } = message;
        const { upstreams } = this.#cache;
        upstreams.all.find((upstream) => upstream.name === name)?.pause({ ...place, forMs: forMs - ageMs });
        return;
      }
      case 'pin':
      case 'unpin':
      case 'purge':
      case 'approve':
      case 'reject':
        this.#waiting += 1;
        this.#last = this.#last.then(() => this.#change(message, from));
        return;
      case 'tag':
        return;
      default:
        return message satisfies never;
    }
  }

  missed({ changes }: { changes: boolean }): void {
    if (changes) {
      this.#log.warn(
        'Redis has lost commands of operators that this replica may have missed: repeat rm and pin if necessary',
      );
    } else this.#log.info('messages of other replicas may have been missed: tags are revalidated');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]();
    clearInterval(this.#noting);
    this.#stop.abort();
    await this.#last;
    this.#note();
  }

  /** Notes how far this replica has come, unless something is left to do: then the next run does it again. */
  #note(): void {
    const { position, self } = this.#coordinator;
    const { catalog } = this.#cache;
    if (self !== '' && self !== catalog.notes.get(idNote)) catalog.notes.set(idNote, self);
    if (this.#waiting === 0 && position !== undefined) catalog.notes.set(positionNote, position);
  }

  /** Never rejects. */
  async #change(change: Change, from: string): Promise<void> {
    const { catalog } = this.#cache;
    const { repository, reference } = change;
    if (this.#stop.signal.aborted) return;
    if (change.kind === 'purge') await this.#purge(change, from);
    else if (change.kind === 'approve' || change.kind === 'reject') await this.#decide(change);
    else if (catalog.pins.isPinnedByName(repository, reference) !== (change.kind === 'pin')) {
      if (change.kind === 'pin') catalog.pins.add(repository, reference);
      else catalog.pins.remove(repository, reference);
      this.#log.info({ repository, reference, from }, change.kind === 'pin' ? 'image pinned' : 'image unpinned');
    }
    if (this.#stop.signal.aborted) return;
    this.#waiting -= 1;
    this.#note();
  }

  async #decide({ kind, reference }: Change): Promise<void> {
    if (!isDigest(reference)) return;
    const verdict = kind === 'approve' ? 'approved' : 'rejected';
    try {
      await this.#cache.holds.decide([reference], { verdict, reason: undefined });
    } catch (error) {
      this.#log.error({ reference, error: described(error) }, 'decision of another replica cannot be written');
    }
  }

  async #purge({ repository, reference }: { repository: string; reference: string }, from: string): Promise<void> {
    const { catalog, store, mirror, upstreams } = this.#cache;
    const image = `${repository}${isDigest(reference) ? '@' : ':'}${reference}`;
    try {
      const administration = new Administration({
        catalog,
        store,
        fills: mirror.fills,
        upstreams: upstreams.table,
        report: administrationReport(this.#log),
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
