import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { bareMediaType, manifestMediaTypes } from '../oci/media-types.ts';
import type { TagKey, TagRecord } from '../store/catalog/tag-records.ts';
import type { ManifestAnswer, ManifestHead } from '../upstream/client.ts';
import { decide, type Staleness, stalenessOf } from '../upstream/freshness.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Completeness } from './completeness.ts';
import type { KeptManifests } from './kept-manifests.ts';
import type { Outcome } from './outcome.ts';

/** A HEAD that tells fewer bytes than this does not tell the size of a manifest. */
const minManifestBytes = 20;

export interface TagInquiryOptions {
  readonly kept: KeptManifests;
  readonly completeness: Pick<Completeness, 'isWhole'>;
  readonly now: () => number;
  readonly coordinator: { readonly isAlone: boolean };
}

/** A question about a tag. */
export interface TagQuestion {
  readonly tag: string;
  /** The media types that the answer may have. */
  readonly accept: readonly string[];
  /** The digest that the tag stood for before, if it may be served as stale. */
  readonly staleDigest: Digest | undefined;
  /** Whether nothing is known of the tag, and its manifest is wanted, too. */
  readonly mayGet: boolean;
  readonly signal: AbortSignal;
}

/** The answer of an upstream about a tag. `age`: of an answer from the cache of another mirror. */
export interface ToldTag {
  readonly record: TagRecord;
  readonly age: ManifestHead['age'];
}

/** A resolved tag: the digest that it stands for now, as far as that can be known. */
export interface ResolvedTag {
  readonly key: TagKey;
  readonly record: TagRecord;
  readonly outcome: Outcome;
  readonly stale?: Staleness | undefined;
  /** The stale record, which may be served if the new manifest cannot be fetched. */
  readonly previous?: { readonly record: TagRecord; readonly ageSeconds: number };
}

/** Asks upstreams for the digests of tags. */
export class TagInquiry {
  readonly #options: TagInquiryOptions;

  constructor(options: TagInquiryOptions) {
    this.#options = options;
  }

  /**
   * By HEAD, which costs no pull; by GET where that says no, or nothing that can be used. The manifest of a GET is kept.
   * A manifest that is wanted and most likely not here is asked for by GET at once: that costs the same pull as a HEAD and
   * a GET by digest, and half their time. Where pulls are counted, or replicas fetch for each other by digest, the HEAD
   * shows first whether it is here.
   * @throws RegistryError
   */
  async ask(repository: Repository, question: TagQuestion): Promise<ToldTag> {
    const { client, isSparing, rateLimit } = repository.upstream;
    const { tag, accept, signal, staleDigest, mayGet } = question;
    if (mayGet && rateLimit === undefined && this.#options.coordinator.isAlone)
      return await this.get(repository, question);
    const { kept, completeness } = this.#options;
    const hasSubstitute = async (): Promise<boolean> =>
      staleDigest !== undefined && (await completeness.isWhole(repository.key, { digest: staleDigest }));
    const head = await client.headManifest(repository.name, tag, { accept, hasSubstitute, signal });
    // The upstream has been asked by GET in any case.
    if (head.answer) return await this.#keep(repository, head.answer);
    // A HEAD without the manifest's own type is worth nothing: clients fail on it (some registries say application/json).
    const isTyped = manifestMediaTypes.includes(bareMediaType(head.contentType));
    const { digest, size = 0, age } = head;
    if (digest !== undefined && size >= minManifestBytes && isTyped) {
      const checkedAtMs = confirmedAtMs(this.#options.now(), age);
      return { record: { digest, contentType: head.contentType, size, checkedAtMs }, age };
    }
    if (isSparing && staleDigest !== undefined && (await kept.get(staleDigest))) {
      throw pullSpared(repository);
    }
    return await this.get(repository, question);
  }

  /** By GET; the manifest is kept. @throws RegistryError */
  async get(
    repository: Repository,
    { tag, accept, signal }: Omit<TagQuestion, 'staleDigest' | 'mayGet'>,
  ): Promise<ToldTag> {
    const { client } = repository.upstream;
    return await this.#keep(repository, await client.getManifest(repository.name, tag, { accept, signal }));
  }

  /**
   * Prefers the manifest that a tag stood for to a new one that would cost one of the last pulls.
   * @throws RegistryError `pull-spared` if the previous manifest is stored and the new one is not
   */
  async spare(repository: Repository, previous: TagRecord, digest: Digest): Promise<void> {
    const { kept } = this.#options;
    if (!repository.upstream.isSparing || digest === previous.digest) return;
    if ((await kept.get(digest)) || !(await kept.get(previous.digest))) return;
    throw pullSpared(repository);
  }

  async #keep(repository: Repository, answer: ManifestAnswer): Promise<ToldTag> {
    const { kept, now } = this.#options;
    const { manifest } = await kept.keep(repository, answer, answer.digest);
    const { digest, contentType, size } = manifest;
    const checkedAtMs = confirmedAtMs(now(), answer.age);
    return { record: { digest, contentType, size, checkedAtMs }, age: answer.age };
  }
}

/**
 * What an upstream's answer means for a tag. One that is a mirror may not have been able to confirm what it has: that is
 * no confirmation for this one either, and the time for which stale tags are served does not begin again.
 * @throws RegistryError `unconfirmed` where that time is over
 */
export function resolvedBy(answer: {
  readonly repository: Repository;
  readonly key: TagKey;
  readonly record: TagRecord | undefined;
  readonly checked: TagRecord;
  readonly age: ManifestHead['age'];
}): ResolvedTag {
  const { repository, key, record, checked, age } = answer;
  if (age?.isStale !== true) {
    return { key, record: checked, outcome: record?.digest === checked.digest ? 'revalidated' : 'miss' };
  }
  const { upstream } = repository;
  const { times } = decide(upstream.freshness, { repository: repository.name, tag: key.tag });
  const error = new RegistryError('unconfirmed', 'the mirror that it is asked through could not confirm it');
  if (age.seconds * 1000 >= times.tagTtlMs + times.staleIfErrorMs) throw error;
  return { key, record: checked, outcome: 'stale', stale: stalenessOf(upstream.name, age.seconds, error) };
}

/** When an answer was confirmed by the registry itself. @param age of an answer from the cache of another mirror */
function confirmedAtMs(nowMs: number, age: ManifestHead['age']): number {
  return nowMs - (age?.seconds ?? 0) * 1000;
}

/** The upstream could give a newer manifest, at the price of one of the few pulls that are left. */
function pullSpared({ upstream }: Repository): RegistryError {
  return new RegistryError(
    'pull-spared',
    `few pulls are left at ${upstream.name}, and they are kept for what is not here`,
  );
}
