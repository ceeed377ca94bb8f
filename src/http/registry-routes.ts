import type { Context, Middleware } from 'koa';
import type { Keeper } from '../front/keeper.ts';
import type { BlobHead, BlobReply } from '../mirror/blobs.ts';
import type { BlobBody } from '../mirror/body.ts';
import type { ManifestHead, ManifestReply } from '../mirror/manifests.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Outcome } from '../mirror/outcome.ts';
import type { Standing } from '../mirror/standing.ts';
import type { Digest } from '../oci/digest.ts';
import type { ManifestReference, RegistryRequest } from '../oci/request.ts';
import type { SignatureGate } from '../signatures/signature-gate.ts';
import { type Repository, repositoryOf } from '../upstream/repository.ts';
import type { Exchange } from './exchange.ts';
import { handedOver, sendfileHeader } from './handed-over.ts';
import type { HoldGate } from './hold-gate.ts';
import { ManifestBlobs } from './manifest-blobs.ts';
import { blobReply, type Conditions, listingReply, manifestReply, pingReply } from './replies.ts';
import type { Reply, Sender } from './send.ts';

/** The last step of a request of the pull API: gets what was asked for from the mirror and sends it. */
export function registryRoutes(options: Omit<Answering, 'manifestBlobs'>): Middleware {
  const isManifest = (digest: Digest): boolean => options.mirror.manifests.isManifest(digest);
  const answering = { ...options, manifestBlobs: new ManifestBlobs({ ...options, isManifest }) };
  return function answer(ctx) {
    const exchange = ctx.state['exchange'] as Exchange;
    const { request, selection } = exchange;
    if (!request) throw new Error('no request has been read');
    const asked: Asked = { ctx, exchange, conditions: conditionsOf(ctx, exchange) };
    if (request.kind === 'ping') return answerPing(answering, asked);
    if (!selection) throw new Error('no upstream has been chosen');
    return answerFrom(answering, {
      ...asked,
      repository: repositoryOf(selection.upstream, selection.repository),
      request,
    });
  };
}

/** Stands on nothing but the configuration. */
async function answerPing({ sender, keeper }: Answering, { ctx, exchange, conditions }: Asked): Promise<void> {
  await sender.send(ctx.res, keeping(pingReply(conditions), { facts: [] }, { keeper, ctx, exchange }), exchange);
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
  /** @throws RegistryError for a manifest that is stored and may not be given. Absent: all may */
  readonly requireGiven?: ((digest: Digest) => void) | undefined;
  /** Decides by signatures which manifests are served; absent: all are. */
  readonly signatures?: SignatureGate<Repository> | undefined;
  /** Decides which manifests are served as blobs; absent: all are. */
  readonly manifestBlobs?: ManifestBlobs | undefined;
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
  { mirror, sender, keeper, gate, signatures, requireGiven }: Answering,
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
  requireGiven?.(found.digest);
  // A HEAD reveals only the digest, and clients that push need it.
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
  { mirror, sender, keeper, handsFilesOver, manifestBlobs }: Answering,
  { ctx, exchange, conditions, repository, digest }: Asked & { repository: Repository; digest: Digest },
): Promise<void> {
  if (conditions.head) {
    const found = await mirror.blobs.head(repository, digest, exchange);
    exchange.outcome = found.outcome;
    const warning = await manifestBlobs?.checkHead(exchange, repository, found);
    await sender.send(ctx.res, keepingBlob(found, warning), exchange);
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

  async function sendBlob(given: BlobReply): Promise<void> {
    const { blob, warning } = (await manifestBlobs?.check(exchange, repository, given)) ?? { blob: given };
    await using _body: BlobBody = blob.body;
    await sender.send(ctx.res, keepingBlob(blob, warning), exchange);
  }

  function keepingBlob(blob: BlobReply | BlobHead, warning: string | undefined): Reply {
    const mayKeep = warning === undefined && keeper?.wants(ctx.req) === true;
    const standing = mayKeep ? mirror.blobs.standing(repository, blob) : undefined;
    const decided = blobReply(blob, { ...conditions, warning });
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

/**
 * An answer that is kept, to be given again without a decision, as soon as its headers go out.
 * @param standing on what it stands, in this turn of the event loop; `undefined`: it is not kept
 */
function keeping(
  reply: Reply,
  standing: (Omit<Standing, 'digest'> & Partial<Pick<Standing, 'digest'>>) | undefined,
  {
    keeper,
    ctx,
    exchange,
  }: { readonly keeper: Keeper | undefined; readonly ctx: Context; readonly exchange: Exchange },
): Reply {
  const { content } = reply;
  const { selection, request, outcome, path, through } = exchange;
  if (!keeper || !standing || !request || content.kind === 'parts') return reply;
  const right = exchange.right();
  if (right === undefined) return reply;
  // Of what has an upstream it is known where it came from.
  if (selection && !outcome) return reply;
  const { start, end } = content.kind === 'body' ? content : { start: 0, end: undefined };
  if (content.kind === 'body' && end === undefined) return reply;
  const onStart = keeper.offer(ctx.req, {
    ...standing,
    facts: [...standing.facts, ...right.facts],
    untilMs: Math.min(standing.untilMs ?? Number.POSITIVE_INFINITY, right.untilMs ?? Number.POSITIVE_INFINITY),
    status: reply.status,
    headers: reply.headers,
    body: content.kind === 'bytes' ? content.bytes : end === undefined ? undefined : { start, end },
    file: standing.file,
    about: {
      method: ctx.method,
      path,
      kind: request.kind,
      upstream: selection?.upstream.name ?? 'none',
      repository: selection?.repository,
      namedBy: selection?.namedBy,
      outcome: outcome ?? 'ok',
      through,
    },
  });
  return { ...reply, onStart };
}

/** The properties of a client that matter when it asks for a tag. */
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
