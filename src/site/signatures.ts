import type { Config } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import type { Mirror } from '../mirror/mirror.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { isNotFound, RegistryError } from '../oci/error.ts';
import type { Material } from '../signatures/material.ts';
import { SignatureGate, type SignatureObserver } from '../signatures/signature-gate.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Cache } from './cache.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import { signatureFiles, signaturePolicies } from './signature-policies.ts';
import type { FileUse } from './watched-files.ts';

/** Decides by signatures which manifests of a mirror are served. */
export type MirrorSignatures = SignatureGate<Repository>;

/** @throws Error in one sentence where a key or a trust root cannot be used */
export async function openSignatures(
  { config, mirror, catalog, now }: Pick<Cache, 'config' | 'mirror' | 'catalog' | 'now'>,
  parts: Pick<Parts, 'log' | 'metrics'>,
): Promise<MirrorSignatures> {
  const gate = new SignatureGate<Repository>({
    material: (repository) => materialOf(repository, { mirror, catalog }),
    observer: signatureObserver(parts),
    now,
  });
  gate.use(await signaturePolicies(config));
  return gate;
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

function signatureObserver({ log, metrics }: Pick<Parts, 'log' | 'metrics'>): SignatureObserver {
  return {
    verified(repository, { digest, by }) {
      metrics.signatureVerdicts.inc({ result: 'verified' });
      log.debug({ repository, digest, by }, 'signature verified');
    },
    unsigned(repository, { digest, reason, mode }) {
      metrics.signatureVerdicts.inc({ result: mode === 'warn' ? 'warned' : 'refused' });
      log.warn({ repository, digest, reason, mode }, 'no valid signature');
    },
  };
}
