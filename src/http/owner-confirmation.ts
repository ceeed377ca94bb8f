import { type Digest, isDigest } from '../oci/digest.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { parseJson } from '../oci/json.ts';
import type { OwnerWord } from '../replicas/owner-word.ts';
import type { WireAnswer } from '../transport/exchange.ts';
import type { Repository } from '../upstream/repository.ts';
import type { Exchange } from './exchange.ts';
import { heldHeader, holdHeader } from './hold-gate.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { writeCaller } from './passed-on.ts';
import type { RepositoryRequest } from './registry-routes.ts';
import type { Reply } from './send.ts';

const limits = { maxValues: 10_000, maxDepth: 5 };

/**
 * Asks the owner whether it has what a client asks for, and whether the client may have it: what was deleted is gone on every
 * replica at once, and what is held is held at each.
 * @returns `undefined` where the owner gives it; while the owner cannot be asked, a function that throws for the digests that it
 *   has last said to be deleted or held
 * @throws RegistryError MANIFEST_UNKNOWN, BLOB_UNKNOWN, DENIED; UNAVAILABLE (503) for what is kept back; the signal's reason
 */
export async function confirmed(
  owner: HostedOwner,
  asked: {
    readonly repository: Repository;
    readonly request: RepositoryRequest;
    readonly exchange: Exchange;
    readonly isHead: boolean;
    /** Whether a digest is stored here. */
    readonly isStored: (digest: Digest) => boolean;
  },
): Promise<((digest: Digest) => void) | undefined> {
  const { repository, request, exchange, isHead, isStored } = asked;
  if (request.kind !== 'manifest' && request.kind !== 'blob') return undefined;
  const reference = referenceOf(request);
  const { word } = owner;
  const answer = await ask(owner, {
    path: `/v2/${repository.name}/${request.kind}s/${reference}`,
    isHead,
    exchange,
  });
  const held = String(answer?.headers[heldHeader.toLowerCase()] ?? '');
  if (isDigest(held)) await word.refuse(repository.name, held);
  switch (answer?.status ?? 0) {
    case 200: {
      await word.allow(repository.name, reference);
      const digest = String(answer?.headers['docker-content-digest'] ?? '');
      if (held === '') await word.allow(repository.name, digest);
      return undefined;
    }
    case 404: {
      if (isDigest(reference) && isStored(reference)) await word.refuse(repository.name, reference);
      const code = request.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN';
      throw new RegistryError('not-found', `${repository.name} has no such ${request.kind}`, { code });
    }
    case 401:
    case 403: {
      const [, said] = /299 - "([^"]*)"/.exec(answer?.headers.warning ?? '') ?? [];
      throw new RegistryError('held', said ?? 'no policy of this mirror allows this to you');
    }
    default: {
      if (await word.isRefused(repository.name, reference)) throw keptBack(reference);
      const refused = await word.refusedOf(repository.name);
      return (digest) => {
        if (refused.has(digest)) throw keptBack(digest);
      };
    }
  }
}

/** Notes what a client has deleted or rejected through this replica, by the answer of the owner. */
export async function noteChange(
  word: OwnerWord,
  change: {
    readonly repository: string;
    readonly method: string;
    readonly exchange: Pick<Exchange, 'path' | 'query'>;
    readonly reply: Reply;
  },
): Promise<void> {
  const { repository, method, exchange, reply } = change;
  if (reply.status < 200 || reply.status > 299) return;
  const [, deleted] = /\/(?:manifests|blobs)\/([^/]+)$/.exec(exchange.path) ?? [];
  if (method === 'DELETE' && deleted !== undefined) {
    await word.refuse(repository, deleted.replace(/%3a/i, ':'));
  }
  if (method === 'PUT' && exchange.path.endsWith('/_millpond/holds')) {
    if (new URLSearchParams(exchange.query).get('state') !== 'rejected') return;
    for (const digest of rejectedIn(reply)) await word.refuse(repository, digest);
  }
}

/** @returns `undefined` where the owner cannot be asked. @throws the signal's reason */
async function ask(
  owner: HostedOwner,
  { path, isHead, exchange }: { readonly path: string; readonly isHead: boolean; readonly exchange: Exchange },
): Promise<WireAnswer | undefined> {
  try {
    const answer = await owner.send({
      method: 'HEAD',
      path,
      headers: isHead ? {} : { [holdHeader]: 'check' },
      body: undefined,
      isPush: false,
      caller: writeCaller(exchange),
      signal: exchange.signal,
    });
    answer.stream.resume();
    return answer;
  } catch (error) {
    if (!isTransient(error)) throw error;
    return undefined;
  }
}

function referenceOf(request: Extract<RepositoryRequest, { kind: 'manifest' | 'blob' }>): string {
  if (request.kind === 'blob') return request.digest;
  return 'tag' in request.reference ? request.reference.tag : request.reference.digest;
}

function rejectedIn({ content }: Reply): Digest[] {
  if (content.kind !== 'bytes') return [];
  const said = parseJson(Buffer.from(content.bytes), limits) as { readonly manifests?: unknown } | null;
  const digests = Array.isArray(said?.manifests) ? (said.manifests as readonly unknown[]) : [];
  return digests.filter((digest): digest is Digest => typeof digest === 'string' && isDigest(digest));
}

/** It may have been pushed again or approved since: the client is to ask again. */
function keptBack(reference: string): RegistryError {
  const sentence = `${reference} was deleted or is held, and the replica that keeps the hosted repositories cannot be asked`;
  return new RegistryError('owner-away', sentence, { headers: { 'Retry-After': '5' } });
}
