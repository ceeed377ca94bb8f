import { LRUCache } from 'lru-cache';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';
import { SharedWork } from '../waiting/shared-work.ts';
import type { Material, Waiting } from './material.ts';
import type { SignaturePolicy } from './policy.ts';
import { descriptorsOf, fieldsOf, isMaterial } from './reading.ts';
import { findSignature, type Verdict } from './verify.ts';

/** A repository, as far as policies need it. */
export interface SignedRepository {
  /** The cache's name of it. */
  readonly key: string;
  /** The upstream's own name of it. */
  readonly name: string;
  readonly upstream: { readonly name: string };
}

export interface SignatureGateOptions<Repository extends SignedRepository> {
  readonly material: (repository: Repository) => Material;
  /** Receives verdicts that were reached, not those that were remembered. */
  readonly report: Report<SignatureEvent>;
  readonly now: () => number;
}

/** A verdict about a manifest. `repository`: the cache's name of it. */
export type SignatureEvent =
  | { readonly kind: 'verified'; readonly repository: string; readonly digest: Digest; readonly by: string }
  | {
      readonly kind: 'unsigned';
      readonly repository: string;
      readonly digest: Digest;
      readonly reason: string;
      readonly mode: SignaturePolicy['mode'];
    };

const maxVerdicts = 100_000;
const maxRepositories = 10_000;
/** Manifests of one repository that are known to pass without a further look. */
const maxPassed = 10_000;
/** How long it is believed that there is no signature: it may be on its way. */
const unsignedMs = 10_000;
/** A pull that would only be warned about does not wait longer for it. */
const warnWaitMs = 3_000;
/** Most indexes that are asked whether they list a manifest. */
const maxIndexes = 8;

/** The policy of a repository, and its manifests that have passed: looked at by each request. */
interface Chosen {
  readonly policy: SignaturePolicy | undefined;
  readonly passed: Set<Digest>;
}

/**
 * Decides which manifests may be served by their signatures, and remembers it. An image is served if it is signed, or if
 * an index of the same repository that lists it is signed.
 */
export class SignatureGate<Repository extends SignedRepository> {
  readonly #options: SignatureGateOptions<Repository>;
  #policies: ReadonlyMap<string, readonly SignaturePolicy[]> = new Map();
  // Takes memory as it fills: `max` would take all of it at the start.
  readonly #chosen = new LRUCache<string, Chosen>({ maxSize: maxRepositories, sizeCalculation: () => 1 });
  readonly #verdicts = new LRUCache<string, Verdict & { readonly untilMs: number }>({
    maxSize: maxVerdicts,
    sizeCalculation: () => 1,
  });
  readonly #work = new SharedWork<Verdict>();

  constructor(options: SignatureGateOptions<Repository>) {
    this.#options = options;
  }

  /** Puts policies in force, by the name of their upstream; verdicts by other keys and identities no longer count. */
  use(policies: ReadonlyMap<string, readonly SignaturePolicy[]>): void {
    this.#policies = policies;
    this.#chosen.clear();
  }

  /** The policy of a repository: the first that matches. */
  policyOf(repository: Repository): SignaturePolicy | undefined {
    return this.#policies.size === 0 ? undefined : this.#choose(repository).policy;
  }

  #choose({ key, name, upstream }: Repository): Chosen {
    const known = this.#chosen.get(key);
    if (known !== undefined) return known;
    const found = this.#policies.get(upstream.name)?.find((one) => one.matches(name));
    const policy = found?.mode === 'off' ? undefined : found;
    const chosen = { policy, passed: new Set<Digest>() };
    this.#chosen.set(key, chosen);
    return chosen;
  }

  /** Whether a manifest is known to pass, or needs no signature. Costs no more than a look. */
  isPassed(repository: Repository, digest: Digest): boolean {
    if (this.#policies.size === 0) return true;
    const { policy, passed } = this.#choose(repository);
    if (policy === undefined || passed.has(digest)) return true;
    if (this.#known(policy, repository, digest)?.kind !== 'verified') return false;
    if (passed.size >= maxPassed) passed.clear();
    passed.add(digest);
    return true;
  }

  /**
   * Makes sure that a manifest may be served.
   * @returns what a client is to be warned of; `undefined`: nothing
   * @throws RegistryError unsigned, or what the look-up of its signatures failed with; the signal's reason
   */
  async check(repository: Repository, digest: Digest, { signal }: Waiting): Promise<string | undefined> {
    const policy = this.policyOf(repository);
    if (policy === undefined) return undefined;
    const isWarning = policy.mode === 'warn';
    const within = isWarning ? AbortSignal.any([signal, AbortSignal.timeout(warnWaitMs)]) : signal;
    let verdict: Verdict;
    try {
      verdict = await this.verdict(policy, { repository, digest, signal: within });
    } catch (error) {
      signal.throwIfAborted();
      if (!isWarning) throw error;
      verdict = { kind: 'unsigned', reason: 'could not be checked for signatures' };
    }
    if (verdict.kind === 'verified') return undefined;
    const sentence = `${repository.key}@${digest} ${verdict.reason}; ${policy.place} asks for one by ${policy.words}`;
    if (isWarning) return sentence;
    throw new RegistryError('unsigned', sentence, { detail: { digest, policy: policy.place } });
  }

  /** The verdict about a manifest, from memory or by a look at its signatures. @throws RegistryError */
  async verdict(
    policy: SignaturePolicy,
    { repository, digest, signal }: Waiting & { readonly repository: Repository; readonly digest: Digest },
  ): Promise<Verdict> {
    const known = this.#known(policy, repository, digest);
    if (known !== undefined) return known;
    const key = keyOf(policy, repository, digest);
    return await this.#work.join(key, {
      signal,
      begin: async (shared) => {
        const verdict = await this.#decide(policy, { repository, digest, signal: shared });
        this.#remember(key, verdict);
        this.#report(policy, { repository, digest, verdict });
        return verdict;
      },
    });
  }

  async #decide(
    policy: SignaturePolicy,
    { repository, digest, signal }: Waiting & { readonly repository: Repository; readonly digest: Digest },
  ): Promise<Verdict> {
    const material = this.#options.material(repository);
    const indexes = material.indexesOf(digest).slice(0, maxIndexes);
    // The usual pull has just been given the index.
    for (const index of indexes) {
      const known = this.#known(policy, repository, index);
      if (known && (await this.#isWithin(known, { index, digest, material, signal }))) return throughIndex(known);
    }
    const manifest = await material.manifest(digest, { signal });
    if (manifest !== undefined && isMaterial(manifest)) return { kind: 'verified', by: 'itself', how: 'material' };
    const own = await findSignature(digest, { policy, material, signal });
    if (own.kind === 'verified') return own;
    for (const index of indexes) {
      const verdict = await findSignature(index, { policy, material, signal });
      if (await this.#isWithin(verdict, { index, digest, material, signal })) return throughIndex(verdict);
    }
    return own;
  }

  /** Whether a manifest is listed by an index that carries a signature itself. */
  async #isWithin(
    verdict: Verdict,
    { index, digest, material, signal }: Waiting & { index: Digest; digest: Digest; material: Material },
  ): Promise<boolean> {
    if (verdict.kind !== 'verified' || verdict.how === 'material') return false;
    const bytes = await material.manifest(index, { signal });
    return bytes !== undefined && descriptorsOf(fieldsOf(bytes)['manifests']).some((one) => one.digest === digest);
  }

  #known(policy: SignaturePolicy, repository: Repository, digest: Digest): Verdict | undefined {
    const found = this.#verdicts.get(keyOf(policy, repository, digest));
    return found !== undefined && found.untilMs > this.#options.now() ? found : undefined;
  }

  #remember(key: string, verdict: Verdict): void {
    const untilMs = verdict.kind === 'verified' ? Number.POSITIVE_INFINITY : this.#options.now() + unsignedMs;
    this.#verdicts.set(key, { ...verdict, untilMs });
  }

  #report(
    { mode }: SignaturePolicy,
    { repository: { key }, digest, verdict }: { repository: Repository; digest: Digest; verdict: Verdict },
  ): void {
    const { report } = this.#options;
    if (verdict.kind === 'verified') report({ kind: 'verified', repository: key, digest, by: verdict.by });
    else report({ kind: 'unsigned', repository: key, digest, reason: verdict.reason, mode });
  }
}

function throughIndex(verdict: Verdict): Verdict {
  return verdict.kind === 'verified' ? { ...verdict, how: 'index' } : verdict;
}

/** A verdict holds for one digest in one repository, under one set of keys and identities. */
function keyOf({ id }: SignaturePolicy, { key }: SignedRepository, digest: Digest): string {
  return `${id} ${key} ${digest}`;
}
