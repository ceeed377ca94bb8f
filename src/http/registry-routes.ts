import type { Context, Middleware } from 'koa';
import type { Keeper } from '../front/keeper.ts';
import type { BlobHead, BlobReply } from '../mirror/blobs.ts';
import type { BlobBody } from '../mirror/body.ts';
import type { ManifestHead, ManifestReply } from '../mirror/manifests.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Outcome } from '../mirror/outcome.ts';
import type { Digest } from '../oci/digest.ts';
import type { ManifestReference, RegistryRequest } from '../oci/request.ts';
import type { SignatureGate } from '../signatures/signature-gate.ts';
import { type Repository, repositoryOf } from '../upstream/repository.ts';
import type { Exchange } from './exchange.ts';
import { handedOver, sendfileHeader } from './handed-over.ts';
import type { HoldGate } from './hold-gate.ts';
import { keeping } from './keeping.ts';
import { blobReply, type Conditions, listingReply, manifestReply, pingReply } from './replies.ts';
import type { Reply, Sender } from './send.ts';

/** The last step of a request of the pull API: gets what was asked for from the mirror and sends it. */
export function registryRoutes(answering: Answering): Middleware {
  return function answer(ctx) {
    const exchange = ctx.state['exchange'] as Exchange;
    const { request, selection } = exchange;
    if (!request) throw new Error('no request has been read');
    const asked: Asked = { ctx, exchange, conditions: conditionsOf(ctx, exchange) };
    if (request.kind === 'ping') return answering.sender.send(ctx.res, pingReply(asked.conditions), exchange);
    if (!selection) throw new Error('no upstream has been chosen');
    return answerFrom(answering, {
      ...asked,
      repository: repositoryOf(selection.upstream, selection.repository),
      request,
    });
  };
}

/** Gets what was asked of a repository from the mirror and sends it. */
export function answerFrom(
  answering: Answering,
  { request, ...asked }: Asked & { readonly repository: Repository; readonly request: RepositoryRequest },
): Promise<void> {
  switch (request.kind) {
    case 'manifest':
      return answerManifest(answering, { ...asked, reference: request.reference });
    case 'blob':
      return answerBlob(answering, { ...asked, digest: request.digest });
    case 'tags':
    case 'referrers':
      return answerListing(answering, { ...asked, request });
    default:
      return request satisfies never;
  }
}

/** A request that names a repository. */
export type RepositoryRequest = Exclude<RegistryRequest, { kind: 'ping' }>;

type ListingRequest = Extract<RegistryRequest, { kind: 'tags' | 'referrers' }>;

interface Answering {
  readonly mirror: Mirror;
  readonly sender: Sender;
  /** Keeps answers that can be given again without a decision; absent: none are kept. */
  readonly keeper?: Keeper | undefined;
  /** Absent: nothing is held. */
  readonly gate?: HoldGate | undefined;
  /** Decides by signatures which manifests are served; absent: all are. */
  readonly signatures?: SignatureGate<Repository> | undefined;
  /** Whether an nginx in front sends stored blobs from their files; read for each answer. Absent: it does not. */
  readonly handsFilesOver?: (() => boolean) | undefined;
}

interface Asked {
  readonly ctx: Context;
  readonly exchange: Exchange;
  readonly conditions: Conditions;
}

/** Where the manifest was stored before it was asked for. */
const fromDisk: ReadonlySet<Outcome> = new Set(['hit', 'stale', 'revalidated', 'revalidating']);

async function answerManifest(
  { mirror, sender, keeper, gate, signatures }: Answering,
  {
    ctx,
    exchange,
    conditions,
    repository,
    reference,
  }: Asked & { repository: Repository; reference: ManifestReference },
): Promise<void> {
  const accept = ctx.req.headers.accept ?? '';
  const atHand = mirror.manifests.atHand(repository, reference, accept);
  // Nothing is kept that is not decided.
  const isPassed = atHand !== undefined && signatures?.isPassed(repository, atHand.digest) !== false;
  // In the same turn: what it stands on has not changed.
  const standing =
    atHand && isPassed && keeper?.wants(ctx.req) ? mirror.manifests.standing(repository, reference, atHand) : undefined;
  const found =
    atHand ??
    (reference.kind === 'digest'
      ? await mirror.manifests.byDigest(repository, reference.digest, new TagOptions(exchange, accept))
      : await byTag(reference.tag, new TagOptions(exchange, accept)));
  exchange.outcome = found.outcome;
  // A HEAD gives nothing away but the digest, and those who push need it.
  if (!conditions.head) {
    gate?.require(exchange, { repository: repository.key, digest: found.digest, isKnown: fromDisk.has(found.outcome) });
  }
  const warning = isPassed ? undefined : await signatures?.check(repository, found.digest, exchange);
  const { rateLimit } = repository.upstream;
  const reply = manifestReply(found, { ...conditions, rateLimit, warning, byDigest: reference.kind === 'digest' });
  await sender.send(ctx.res, keeping(reply, standing, { keeper, ctx, exchange }), exchange);

  function byTag(tag: string, options: TagOptions): Promise<ManifestReply | ManifestHead> {
    const { manifests } = mirror;
    return conditions.head ? manifests.headByTag(repository, tag, options) : manifests.byTag(repository, tag, options);
  }
}

async function answerBlob(
  { mirror, sender, keeper, handsFilesOver }: Answering,
  { ctx, exchange, conditions, repository, digest }: Asked & { repository: Repository; digest: Digest },
): Promise<void> {
  if (conditions.head) {
    const found = await mirror.blobs.head(repository, digest, exchange);
    exchange.outcome = found.outcome;
    await sender.send(ctx.res, keepingBlob(found), exchange);
    return;
  }
  exchange.isRanged = conditions.range !== undefined;
  const found = await mirror.blobs.get(repository, digest, exchange);
  exchange.outcome = found.outcome;
  try {
    await sendBlob(found);
  } catch (error) {
    // As long as no header is out, another source or another answer can take its place.
    const isOutdated = found.body.isOutdated === true;
    if ((found.outcome !== 'hit' && !isOutdated) || ctx.res.headersSent || exchange.isGone) throw error;
    const { signal, isRanged } = exchange;
    const fetched = isOutdated
      ? await mirror.blobs.get(repository, digest, exchange)
      : await mirror.blobs.getUnreadable(repository, digest, { signal, isRanged, error });
    exchange.outcome = fetched.outcome;
    await sendBlob(fetched);
  }

  async function sendBlob(blob: BlobReply): Promise<void> {
    await using _body: BlobBody = blob.body;
    await sender.send(ctx.res, keepingBlob(blob), exchange);
  }

  function keepingBlob(blob: BlobReply | BlobHead): Reply {
    const standing = keeper?.wants(ctx.req) ? mirror.blobs.standing(repository, blob) : undefined;
    const decided = blobReply(blob, conditions);
    const reply = 'body' in blob && isHandedOver() ? handedOver(decided, blob, conditions) : decided;
    return keeping(reply, standing, { keeper, ctx, exchange });
  }

  /** Other replicas ask past nginx, and nginx asks a second time for what it cannot read. */
  function isHandedOver(): boolean {
    return handsFilesOver?.() === true && !exchange.isPeer && ctx.req.headers[sendfileHeader] === undefined;
  }
}

async function answerListing(
  { mirror, sender }: Answering,
  { ctx, exchange, conditions, repository, request }: Asked & { repository: Repository; request: ListingRequest },
): Promise<void> {
  const listing =
    request.kind === 'tags'
      ? await mirror.listings.tags(repository, exchange.query, exchange)
      : await mirror.listings.referrers(repository, request.digest, exchange);
  exchange.outcome = listing.outcome;
  const { path, selecting } = exchange;
  await sender.send(ctx.res, listingReply(listing, { ...conditions, path, selecting }), exchange);
}

/** What the mirror has to know of a client that asks for a tag. */
class TagOptions {
  readonly accept: string;
  readonly #exchange: Exchange;

  constructor(exchange: Exchange, accept: string) {
    this.#exchange = exchange;
    this.accept = accept;
  }

  get signal(): AbortSignal {
    return this.#exchange.signal;
  }

  get canFallBack(): boolean {
    return this.#exchange.canFallBack;
  }
}

/** The parts of a request that decide the form of its answer. */
export function conditionsOf(ctx: Context, exchange: Exchange): Conditions {
  const { headers } = ctx.req;
  return {
    head: ctx.method === 'HEAD',
    range: headers.range,
    ifRange: typeof headers['if-range'] === 'string' ? headers['if-range'] : undefined,
    ifNoneMatch: headers['if-none-match'],
    namespace: exchange.selection?.namespace,
  };
}
