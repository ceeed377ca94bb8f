import type { Context } from 'koa';
import type { Keeper } from '../front/keeper.ts';
import type { Standing } from '../mirror/standing.ts';
import type { Exchange } from './exchange.ts';
import type { Reply } from './send.ts';

/**
 * An answer that is kept, to be given again without a decision, as soon as its headers go out.
 * @param standing on what it stands, in this turn of the event loop; `undefined`: it is not kept
 */
export function keeping(
  reply: Reply,
  standing: Standing | undefined,
  {
    keeper,
    ctx,
    exchange,
  }: { readonly keeper: Keeper | undefined; readonly ctx: Context; readonly exchange: Exchange },
): Reply {
  const { content } = reply;
  const { selection, request, outcome, path, through } = exchange;
  if (!keeper || !standing || !selection || !request || !outcome || content.kind === 'parts') return reply;
  const { start, end } = content.kind === 'body' ? content : { start: 0, end: undefined };
  if (content.kind === 'body' && end === undefined) return reply;
  const onStart = keeper.offer(ctx.req, {
    ...standing,
    status: reply.status,
    headers: reply.headers,
    body: content.kind === 'bytes' ? content.bytes : end === undefined ? undefined : { start, end },
    file: standing.file,
    about: {
      method: ctx.method,
      path,
      kind: request.kind,
      upstream: selection.upstream.name,
      repository: selection.repository,
      namedBy: selection.namedBy,
      outcome,
      through,
    },
  });
  return { ...reply, onStart };
}
