import type { ExplainedAccess } from '../../../access/explain.ts';
import { Completeness } from '../../../mirror/completeness.ts';
import { KeptManifests } from '../../../mirror/kept-manifests.ts';
import { parseReference } from '../../../oci/reference.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { BlobStore } from '../../../store/files/blob-store.ts';
import { type Decision, decide, type FreshnessVerdict, freshnessOf } from '../../../upstream/freshness.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import { isAvailable } from '../../../upstream/upstream.ts';
import type { Explanation, StoredImage } from '../../protocol/explain.ts';
import { selectRepository } from '../administration/image-names.ts';
import { Inventory } from './inventory.ts';
import { withoutOwnAddress } from './own-address.ts';

export interface ExplanationOptions {
  readonly upstreams: UpstreamTable;
  readonly store: BlobStore;
  readonly catalog: Catalog;
  readonly offline: boolean;
  readonly now: () => number;
  /** The kind of credential that an upstream receives, in words without any secret. */
  readonly credential: (upstream: string) => string;
  /** Which signature the images of a repository must carry, in words; `undefined`: none. */
  readonly signatures: (upstream: string, repository: string) => string | undefined;
  /** Where this mirror listens, as `host:port`. */
  readonly addresses: readonly string[];
  /** The verdict of the policies for a caller and a repository; `undefined`: callers are not distinguished. */
  readonly decide: (who: string, repository: string) => ExplainedAccess | undefined;
}

/** The input of {@link outcomeOf}. */
interface Facts {
  readonly options: ExplanationOptions;
  readonly key: string;
  readonly upstream: Explanation['upstream'];
  readonly stored: StoredImage | undefined;
}

/**
 * Explains what an image name gets. Contacts no upstream.
 * @param image as a person writes it, also with this mirror's own address; without a tag or digest, the tag `latest`
 * @param who whose rights are explained; absent: no one's
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID, NAME_UNKNOWN for a name without an upstream
 */
export async function explainImage(image: string, options: ExplanationOptions, who?: string): Promise<Explanation> {
  const { catalog, store, offline, now } = options;
  const reference = withoutOwnAddress(parseReference(image), options.upstreams, options.addresses);
  const { registry, repository: name } = reference;
  const { upstream, repository, allowed } = selectRepository(options.upstreams, { registry, name });
  const key = `${upstream.name}/${repository}`;
  const tag = reference.digest === undefined ? (reference.tag ?? 'latest') : undefined;
  const kept = new KeptManifests({ store, catalog, report: ignore });
  const inventory = new Inventory({ kept, catalog, completeness: new Completeness({ store, catalog, kept }) });
  const record = tag === undefined ? undefined : catalog.tags.get({ repository: key, tag, variant: '' });
  const digest = reference.digest ?? record?.digest;
  const stored = digest && (await inventory.image(key, digest));
  const decision = tag === undefined ? undefined : decide(upstream.freshness, { repository, tag });
  const facts: Facts = {
    options,
    key,
    stored,
    upstream: {
      name: upstream.name,
      namedBy: reference.registry === undefined && upstream === options.upstreams.default ? 'default' : 'image',
      urls: upstream.client.endpoints.map((endpoint) => endpoint.url),
      credential: options.credential(upstream.name),
      available: isAvailable(upstream.status()),
      sparing: upstream.isSparing,
    },
  };
  const verdict = record && decision && freshnessOf(record, { now: now(), times: decision.times, offline });
  return {
    image,
    offline,
    upstream: facts.upstream,
    repository,
    allowed,
    signatures: options.signatures(upstream.name, repository) ?? null,
    access: (who === undefined ? undefined : options.decide(who, key)) ?? null,
    tag: tag ?? null,
    freshness: decision ? freshnessFacts(decision) : null,
    stored: stored ?? null,
    checkedAt: record?.checkedAtMs ? new Date(record.checkedAtMs).toISOString() : null,
    ageSeconds: record?.checkedAtMs ? Math.max(0, Math.floor((now() - record.checkedAtMs) / 1000)) : null,
    outcome: allowed
      ? outcomeOf(facts, { verdict, decision, checkedAtMs: record?.checkedAtMs })
      : { kind: 'refused', text: `Refused with 403: upstreams.${upstream.name}.repositories does not allow it.` },
  };
}

function freshnessFacts({ times, rule, position }: Decision): NonNullable<Explanation['freshness']> {
  return {
    rule: rule && position !== undefined ? { position, match: rule.match, repositories: rule.repositories } : null,
    tagTtlMs: times.tagTtlMs,
    staleWhileRevalidateMs: times.staleWhileRevalidateMs ?? 0,
    staleIfErrorMs: times.staleIfErrorMs,
  };
}

function outcomeOf(
  { options, key, upstream, stored }: Facts,
  of: { verdict: FreshnessVerdict | undefined; decision: Decision | undefined; checkedAtMs: number | undefined },
): Explanation['outcome'] {
  const { offline, now } = options;
  const { name, available } = upstream;
  const lacks = stored ? `${stored.missingBlobs} of its ${stored.blobs} blobs are missing` : 'its manifest is missing';
  const whole = stored?.whole ?? false;
  const kind = of.verdict?.kind ?? (stored ? 'stored' : 'missing');
  const ask = `HEAD to ${upstream.urls[0]}`;
  const uncontacted = `${name} is not contacted`;
  if (offline) {
    if (!stored) return { kind: 'missing', text: `Not found (404): the mirror is offline and has not stored ${key}.` };
    if (!whole) return { kind, text: `Not found (404): the mirror is offline and ${lacks}.` };
    return { kind, text: 'Served from disk whatever its age: the mirror is offline.' };
  }
  if (of.verdict === undefined || of.decision === undefined || of.checkedAtMs === undefined) {
    if (!stored) {
      return available
        ? { kind, text: `Not stored: fetched from ${name} and kept.` }
        : { kind, text: `Not stored, and ${name} is known not to answer: refused until it does.` };
    }
    if (!stored.readable) return { kind, text: `Stored for another repository: ${ask} confirms the right to read it.` };
    if (!available && !whole) return { kind, text: `Refused until ${name} answers again: ${lacks}.` };
    return { kind, text: whole ? `Served from disk; ${uncontacted}.` : `Served from disk; ${lacks} and are fetched.` };
  }
  const { tagTtlMs, staleWhileRevalidateMs = 0, staleIfErrorMs } = of.decision.times;
  const left = (ms: number): string => duration((of.checkedAtMs ?? 0) + ms - now());
  const until = new Date(of.checkedAtMs + tagTtlMs + staleIfErrorMs).toISOString();
  const trouble = !available && !whole ? ` But ${name} is known not to answer and ${lacks}: refused.` : '';
  switch (of.verdict.kind) {
    case 'fresh':
      return {
        kind,
        text: stored
          ? `Fresh for another ${left(tagTtlMs)}: served from disk, ${uncontacted}.${trouble}`
          : `Fresh for another ${left(tagTtlMs)}, but its manifest is not here: fetched from ${name} by its digest.`,
      };
    case 'revalidating':
      return {
        kind,
        text: `Past its time, served at once for another ${left(tagTtlMs + staleWhileRevalidateMs)}: ${ask} in the background.${trouble}`,
      };
    case 'stale':
      return {
        kind,
        text: whole
          ? `Stale: ${ask}; if it cannot answer, served with a Warning until ${until}.`
          : `Stale: ${ask}; if it cannot answer, refused, since ${lacks}.`,
      };
    case 'expired':
      return { kind, text: `Too old to stand in for ${name}: ${ask}; if it cannot answer, refused.` };
    default:
      return of.verdict satisfies never;
  }
}

const units = [
  ['d', 86_400],
  ['h', 3600],
  ['min', 60],
] as const;

/** Milliseconds for people, in one unit. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const [unit, length] = units.find(([, unitSeconds]) => seconds >= 2 * unitSeconds) ?? ['s', 1];
  return `${Math.floor(seconds / length)} ${unit}`;
}

function ignore(): void {
  // Examining something neither counts as a use nor logs.
}
