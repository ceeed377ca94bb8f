import { readManifest } from '../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { isNotFound, isTransient, RegistryError } from '../oci/error.ts';
import { bareMediaType, manifestAccept, manifestMediaTypes } from '../oci/media-types.ts';
import { type BlobStore, DiskFault } from '../store/blob-store.ts';
import type { Catalog, TagKey, TagRecord } from '../store/catalog.ts';
import type { ManifestAnswer } from '../upstream/client.ts';
import { acceptVariant, isAcceptable } from './accept.ts';
import type { Waiting } from './blobs.ts';
import { withDeadline } from './deadline.ts';
import { freshnessOf, staleWarning } from './freshness.ts';
import type { NegativeAnswers } from './negative-answers.ts';
import type { Outcome } from './outcome.ts';
import { SingleFlight } from './single-flight.ts';
import type { Target } from './sources.ts';

/** Told of what is worth a number or a log line. */
export interface ManifestObserver {
  manifestReceived(upstream: string, bytes: number): void;
  staleServed(upstream: string): void;
  diskFault(error: DiskFault): void;
}

export interface ManifestsOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly negative: NegativeAnswers;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  readonly now: () => number;
  readonly observer: ManifestObserver;
}

/** What a client is told about a manifest. */
export interface ManifestHead {
  readonly digest: Digest;
  readonly size: number;
  /** The exact `Content-Type` of the upstream. */
  readonly contentType: string;
  readonly outcome: Outcome;
  /** Of a stale tag: when the upstream last confirmed it, and what the client is warned of. */
  readonly stale?: { readonly ageSeconds: number; readonly warning: string } | undefined;
}

export interface ManifestReply extends ManifestHead {
  readonly bytes: Buffer;
}

/** What a tag stands for now, as far as it can be known. */
interface Resolved {
  readonly record: TagRecord;
  readonly outcome: Outcome;
  readonly stale?: ManifestHead['stale'] | undefined;
  /** What it stood for before the upstream was asked, where that may still stand in for it. */
  readonly previous?: { readonly record: TagRecord; readonly ageSeconds: number };
}

/** Manifests through one repository, by digest and by tag. */
export class Manifests {
  readonly #options: ManifestsOptions;
  readonly #fetches = new SingleFlight<ManifestReply>();
  readonly #resolutions = new SingleFlight<Resolved>();
  readonly #confirmations = new SingleFlight<void>();

  constructor(options: ManifestsOptions) {
    this.#options = options;
  }

  /**
   * A manifest by its digest: from here for ever, once it is here.
   * @throws RegistryError MANIFEST_UNKNOWN, DENIED, TOOMANYREQUESTS, UNAVAILABLE; the signal's reason
   */
  async byDigest(target: Target, digest: Digest, waiting: Waiting): Promise<ManifestReply> {
    const { catalog, negative } = this.#options;
    const stored = await this.#stored(digest);
    if (stored) {
      if (!catalog.mayRead(target.key, digest)) await this.#confirm(target, digest, waiting);
      return stored;
    }
    this.#refuseOffline(target, digest);
    const known = negative.get(target, digest);
    if (known) throw known;
    return await this.#fetches.run(
      `${target.key} ${digest}`,
      async () => {
        try {
          return await this.#fetch(target, digest, digest);
        } catch (error) {
          negative.note(target, digest, error);
          throw error;
        }
      },
      waiting,
    );
  }

  /**
   * A manifest by tag, at most `tagTtl` behind the upstream, or older where the upstream cannot answer.
   * @param accept the client's `Accept` headers; empty where it sent none
   * @throws RegistryError as {@link byDigest}
   */
  async byTag(target: Target, tag: string, options: Waiting & { accept: string }): Promise<ManifestReply> {
    const { record, outcome, stale, previous } = await this.#resolve(target, tag, options);
    try {
      const manifest = await this.byDigest(target, record.digest, options);
      return { ...manifest, outcome: manifest.outcome === 'hit' ? outcome : manifest.outcome, stale };
    } catch (error) {
      // The upstream said what the tag is and then could not give it: what it was before is better than nothing.
      const stored = isTransient(error) && previous ? await this.#stored(previous.record.digest) : undefined;
      if (!stored || !previous) throw error;
      this.#options.observer.staleServed(target.upstream.name);
      return { ...stored, outcome: 'stale', stale: staleness(target, previous.ageSeconds, error) };
    }
  }

  /** What {@link byTag} would answer, without fetching a manifest that is not here. @throws RegistryError */
  async headByTag(target: Target, tag: string, options: Waiting & { accept: string }): Promise<ManifestHead> {
    const { record, outcome, stale } = await this.#resolve(target, tag, options);
    if (this.#options.offline && !(await this.#stored(record.digest))) this.#refuseOffline(target, record.digest);
    return { digest: record.digest, size: record.size, contentType: record.contentType, outcome, stale };
  }

  async #resolve(target: Target, tag: string, options: Waiting & { accept: string }): Promise<Resolved> {
    const { catalog } = this.#options;
    const standard: TagKey = { repository: target.key, tag, variant: '' };
    const record = catalog.tag(standard);
    const variant = acceptVariant(options.accept);
    if (record === undefined || variant.length === 0 || isAcceptable(record.contentType, options.accept)) {
      const resolved = await this.#resolveVariant(target, standard, manifestAccept, options);
      if (variant.length === 0 || isAcceptable(resolved.record.contentType, options.accept)) return resolved;
    }
    // This client cannot take what the tag is for everybody else: the upstream may have something else for it.
    return await this.#resolveVariant(target, { ...standard, variant: variant.join(',') }, variant, options);
  }

  async #resolveVariant(target: Target, key: TagKey, accept: readonly string[], waiting: Waiting): Promise<Resolved> {
    const { catalog, negative, offline, now } = this.#options;
    const record = catalog.tag(key);
    const freshness = record && freshnessOf(record, { now: now(), freshness: target.upstream.freshness, offline });
    if (record && freshness?.kind === 'fresh') return { record, outcome: 'hit' };
    if (offline) {
      throw new RegistryError('MANIFEST_UNKNOWN', `this mirror is offline and has not stored ${target.key}:${key.tag}`);
    }
    const what = `${key.tag} ${key.variant}`;
    const known = negative.get(target, what);
    if (known) throw known;
    try {
      const resolved = await this.#resolutions.run(
        `${target.key} ${what}`,
        () => withDeadline((signal) => this.#revalidate(target, key, { accept, record, signal }), target.upstream),
        waiting,
      );
      return record && freshness?.kind === 'stale'
        ? { ...resolved, previous: { record, ageSeconds: freshness.ageSeconds } }
        : resolved;
    } catch (error) {
      negative.note(target, what, error);
      if (isNotFound(error) && record) catalog.forgetTag(key);
      if (!isTransient(error) || !record || freshness?.kind !== 'stale') throw error;
      // Only what can be given whole may stand in for the upstream.
      if (!(await this.#stored(record.digest))) throw error;
      this.#options.observer.staleServed(target.upstream.name);
      return {
        record,
        outcome: 'stale',
        stale: staleness(target, freshness.ageSeconds, error),
      };
    }
  }

  /** Asks the upstream what a tag is now: by HEAD, which costs no pull, and by GET where that says nothing. */
  async #revalidate(
    target: Target,
    key: TagKey,
    { accept, record, signal }: { accept: readonly string[]; record: TagRecord | undefined; signal: AbortSignal },
  ): Promise<Resolved> {
    const { catalog, now } = this.#options;
    const { client } = target.upstream;
    const head = await client.headManifest(target.repository, key.tag, { accept, signal });
    // A HEAD without the manifest's own type is worth nothing: clients fail on it (some registries say application/json).
    const isTyped = manifestMediaTypes.includes(bareMediaType(head.contentType));
    if (head.digest !== undefined && head.size !== undefined && isTyped) {
      const checked: TagRecord = {
        digest: head.digest,
        contentType: head.contentType,
        size: head.size,
        checkedAtMs: now(),
      };
      catalog.recordTag(key, checked);
      return { record: checked, outcome: record?.digest === head.digest ? 'revalidated' : 'miss' };
    }
    const answer = await client.getManifest(target.repository, key.tag, { accept, signal });
    const manifest = await this.#keep(target, answer, answer.digest ?? digestOf(answer.bytes));
    const { digest, contentType, size } = manifest;
    const checked: TagRecord = { digest, contentType, size, checkedAtMs: now() };
    catalog.recordTag(key, checked);
    return { record: checked, outcome: record?.digest === digest ? 'revalidated' : 'miss' };
  }

  async #fetch(target: Target, reference: string, digest: Digest): Promise<ManifestReply> {
    const { client } = target.upstream;
    const answer = await withDeadline(
      (signal) => client.getManifest(target.repository, reference, { accept: manifestAccept, signal }),
      target.upstream,
    );
    return await this.#keep(target, answer, digest);
  }

  /** Verifies what the upstream gave and stores it. @throws RegistryError UNAVAILABLE for anything that is not the manifest */
  async #keep(target: Target, answer: ManifestAnswer, digest: Digest): Promise<ManifestReply> {
    const { catalog, store } = this.#options;
    const { bytes, contentType } = answer;
    const size = bytes.length;
    this.#options.observer.manifestReceived(target.upstream.name, size);
    const actual = digestOf(bytes, digestAlgorithm(digest));
    if (actual !== digest) {
      throw new RegistryError('UNAVAILABLE', `${target.upstream.name} sent bytes that are not this manifest`, {
        detail: { expected: digest, actual },
      });
    }
    const links = readManifestOf(target, bytes, contentType);
    try {
      await store.put(digest, bytes);
    } catch (error) {
      // A full disk is no reason to keep a manifest from a client: it stays in memory for a while.
      if (!(error instanceof DiskFault)) throw error;
      this.#options.observer.diskFault(error);
    }
    catalog.recordManifest(digest, { repository: target.key, size, contentType, links });
    return { digest, size, contentType, bytes, outcome: 'miss' };
  }

  async #stored(digest: Digest): Promise<ManifestReply | undefined> {
    const { store, catalog, observer } = this.#options;
    if (!catalog.isManifest(digest)) return undefined;
    const contentType = catalog.blob(digest)?.contentType;
    if (contentType === undefined) return undefined;
    try {
      const bytes = await store.read(digest);
      if (bytes === undefined) return undefined;
      catalog.touch(digest);
      return { digest, size: bytes.length, contentType, bytes, outcome: 'hit' };
    } catch (error) {
      if (!(error instanceof DiskFault)) throw error;
      observer.diskFault(error);
      return undefined;
    }
  }

  /** Asks the upstream whether a manifest that is here is also in this repository. */
  async #confirm(target: Target, digest: Digest, waiting: Waiting): Promise<void> {
    const { catalog, negative } = this.#options;
    this.#refuseOffline(target, digest);
    const known = negative.get(target, digest);
    if (known) throw known;
    const { client } = target.upstream;
    const ask = (signal: AbortSignal) =>
      client.headManifest(target.repository, digest, { accept: manifestAccept, signal });
    try {
      await this.#confirmations.run(
        `${target.key} ${digest}`,
        async () => void (await withDeadline(ask, target.upstream)),
        waiting,
      );
    } catch (error) {
      negative.note(target, digest, error);
      throw error;
    }
    catalog.grant(target.key, digest);
  }

  #refuseOffline(target: Target, digest: Digest): void {
    if (!this.#options.offline) return;
    throw new RegistryError('MANIFEST_UNKNOWN', `this mirror is offline and has not stored ${target.key}@${digest}`);
  }
}

function readManifestOf(target: Target, bytes: Buffer, contentType: string) {
  try {
    return readManifest(bytes, contentType);
  } catch (error) {
    throw new RegistryError('UNAVAILABLE', `${target.upstream.name} sent something that is not a manifest`, {
      cause: error,
    });
  }
}

function staleness(target: Target, ageSeconds: number, error: unknown): NonNullable<ManifestHead['stale']> {
  return { ageSeconds, warning: staleWarning(target.upstream.name, error) };
}
