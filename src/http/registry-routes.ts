import type { Context, Middleware } from 'koa';
import type { BlobBody } from '../mirror/body.ts';
import type { Mirror } from '../mirror/mirror.ts';
import type { Target } from '../mirror/sources.ts';
import { RegistryError } from '../oci/error.ts';
import type { Exchange } from './exchange.ts';
import { blobReply, type Conditions, listingReply, manifestReply, pingReply } from './replies.ts';
import type { Reply, Sender } from './send.ts';

/** The last step of a request of the pull API: gets what was asked for from the mirror and sends it. */
export function registryRoutes({ mirror, sender }: { mirror: Mirror; sender: Sender }): Middleware {
  return async function answer(ctx) {
    const exchange = ctx.state['exchange'] as Exchange;
    const conditions = conditionsOf(ctx, exchange);
    const { request, selection } = exchange;
    if (!request) throw new RegistryError('NAME_UNKNOWN', 'this path is not part of the pull API of a registry');
    if (request.kind === 'ping') return await sender.send(ctx.res, pingReply(conditions), exchange);
    if (!selection) throw new Error('no upstream has been chosen');
    const { upstream, repository } = selection;
    const target: Target = { upstream, repository, key: `${upstream.name}/${repository}` };
    switch (request.kind) {
      case 'manifest':
        return await sender.send(ctx.res, await manifest(target, request.reference), exchange);
      case 'blob':
        return await blob(target, request.digest);
      case 'tags':
      case 'referrers': {
        const listing =
          request.kind === 'tags'
            ? await mirror.listings.tags(target, exchange.query, exchange)
            : await mirror.listings.referrers(target, request.digest, exchange);
        exchange.outcome = listing.outcome;
        const reply = listingReply(listing, { ...conditions, path: exchange.path, selecting: exchange.selecting });
        return await sender.send(ctx.res, reply, exchange);
      }
      default:
        return request satisfies never;
    }

    async function manifest(
      from: Target,
      reference: Extract<typeof request, { kind: 'manifest' }>['reference'],
    ): Promise<Reply> {
      if (reference.kind === 'digest') {
        const found = await mirror.manifests.byDigest(from, reference.digest, exchange);
        exchange.outcome = found.outcome;
        return manifestReply(found, { ...conditions, byDigest: true });
      }
      // Not `exchange` itself with a getter spread: its signal must stay lazy.
      const options = new TagOptions(exchange, ctx.req.headers.accept ?? '');
      const found = conditions.head
        ? await mirror.manifests.headByTag(from, reference.tag, options)
        : await mirror.manifests.byTag(from, reference.tag, options);
      exchange.outcome = found.outcome;
      return manifestReply(found, { ...conditions, byDigest: false });
    }

    async function blob(from: Target, digest: Extract<typeof request, { kind: 'blob' }>['digest']): Promise<void> {
      if (conditions.head) {
        const found = await mirror.blobs.head(from, digest, exchange);
        exchange.outcome = found.outcome;
        return await sender.send(ctx.res, blobReply(found, conditions), exchange);
      }
      exchange.isRanged = conditions.range !== undefined;
      const found = await mirror.blobs.get(from, digest, exchange);
      exchange.outcome = found.outcome;
      await using _body: BlobBody = found.body;
      await sender.send(ctx.res, blobReply(found, conditions), exchange);
    }
  };
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
}

/** What of a request decides the form of its answer. */
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
