import type { Config } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import type { Mirror } from '../mirror/mirror.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { isNotFound, RegistryError } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';
import type { OwnedCache, SignatureChecks } from '../operations/owner/cache/owned-cache.ts';
import type { Material, Waiting } from '../signatures/material.ts';
import type { SignaturePolicy } from '../signatures/policy.ts';
import { type SignatureEvent, SignatureGate } from '../signatures/signature-gate.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Repository } from '../upstream/repository.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import { signatureFiles, signaturePolicies } from './signature-policies.ts';
import { storedMaterial } from './stored-material.ts';
import type { FileUse } from './watched-files.ts';

/** Decides by signatures which manifests of a mirror are served. */
export type MirrorSignatures = SignatureGate<Repository>;

/** The signature policies of a cache, for pulls and for what operators move. */
export class CacheSignatures implements SignatureChecks {
  /** For pulls: looks at what upstreams have. */
  readonly gate: MirrorSignatures;
  readonly #config: () => Config;
  /** Looks at stored signatures each time: they have to go along with what is exported. */
  readonly #storedGate: () => MirrorSignatures;
  #policies: ReadonlyMap<string, readonly SignaturePolicy[]> = new Map();
  #isInUse: Promise<void> | undefined;

  constructor(
    { mirror, catalog, store, now }: Pick<OwnedCache, 'mirror' | 'catalog' | 'store' | 'now'>,
    { config, ...parts }: Pick<Parts, 'log' | 'metrics'> & { readonly config: () => Config },
  ) {
    const common = { report: signatureReport(parts), now };
    this.#config = config;
    this.gate = new SignatureGate({
      ...common,
      material: (repository) => materialOf(repository, { mirror, catalog }),
    });
    this.#storedGate = () =>
      new SignatureGate({ ...common, material: (repository) => storedMaterial(repository, { store, catalog }) });
  }

  /**
   * Puts the policies of the configuration in force; a command that needs none does not read their files.
   * @throws Error in one sentence where a key or a trust root cannot be used
   */
  async load(): Promise<void> {
    this.#isInUse ??= signaturePolicies(this.#config()).then((policies) => this.use(policies));
    await this.#isInUse;
  }

  /** As {@link SignatureGate.use}. */
  use(policies: ReadonlyMap<string, readonly SignaturePolicy[]>): void {
    this.#isInUse = Promise.resolve();
    this.#policies = policies;
    this.gate.use(policies);
  }

  async ofUpstream(repository: Repository, digest: Digest, waiting: Waiting): Promise<string | undefined> {
    await this.load();
    return await this.gate.check(repository, digest, waiting);
  }

  async ofStored(repository: Repository, digest: Digest, waiting: Waiting): Promise<string | undefined> {
    await this.load();
    const gate = this.#storedGate();
    gate.use(this.#policies);
    return await gate.check(repository, digest, waiting);
  }
}

/** Keys and trust roots, to be watched. @param take puts what they hold now in force */
export function policyFiles(config: Config, take: () => Promise<void>): FileUse[] {
  return config.upstreams.flatMap(({ name, signatures }) =>
    signatures.flatMap((one, index): FileUse[] => {
      const files = named([formatPath(['upstreams', name, 'signatures', index])], signatureFiles(one));
      if (Object.keys(files).length === 0) return [];
      return [{ name: `signatures ${index} of ${name}`, files, code: 'file-refused', take }];
    }),
  );
}

/** Signatures are read as clients read them: through the mirror, where they are kept. */
function materialOf(
  repository: Repository,
  { mirror, catalog }: { readonly mirror: Mirror; readonly catalog: Catalog },
): Material {
  return {
    async manifest(reference, { signal }) {
      try {
        const found = isDigest(reference)
          ? await mirror.manifests.byDigest(repository, reference, { signal })
          : await mirror.manifests.byTag(repository, reference, { accept: '', signal });
        return found.bytes;
      } catch (error) {
        if (isNotFound(error)) return undefined;
        throw error;
      }
    },
    async referrers(digest, { signal }) {
      return (await mirror.listings.referrers(repository, digest, { query: '', signal })).bytes;
    },
    blob: async (digest, options) => await blobOf(repository, digest, { ...options, mirror }),
    indexesOf: (digest) =>
      catalog.images.parents(digest).filter((index) => catalog.grants.mayRead(repository.key, index)),
  };
}

async function blobOf(
  repository: Repository,
  digest: Digest,
  { mirror, maxBytes, signal }: { mirror: Mirror; maxBytes: number; signal: AbortSignal },
): Promise<Buffer> {
  const { body } = await mirror.blobs.get(repository, digest, { signal });
  await using _body = body;
  if (body.bytes !== undefined && body.bytes.length <= maxBytes) return Buffer.from(body.bytes);
  const buffer = Buffer.allocUnsafe(maxBytes + 1);
  let length = 0;
  for (;;) {
    const read = await body.read(buffer.subarray(length), length, signal);
    if (read === 0) return buffer.subarray(0, length);
    length += read;
    if (length > maxBytes) throw new RegistryError('too-large', `a signature in ${repository.key} is too large`);
  }
}

function signatureReport({ log, metrics }: Pick<Parts, 'log' | 'metrics'>): Report<SignatureEvent> {
  return ({ kind, ...event }) => {
    const isVerified = kind === 'verified';
    const result = 'mode' in event && event.mode === 'warn' ? 'warned' : 'refused';
    metrics.signatureVerdicts.inc({ result: isVerified ? 'verified' : result });
    if (isVerified) log.debug(event, 'signature verified');
    else log.warn(event, 'no valid signature');
  };
}
