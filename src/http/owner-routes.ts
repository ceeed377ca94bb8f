import type { Context, Middleware, Next } from 'koa';
import type { Mirror } from '../mirror/mirror.ts';
import { RegistryError } from '../oci/error.ts';
import { parseExtensionPath } from '../oci/extension-path.ts';
import { parseRequest, requireRepository } from '../oci/request.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import type { WireAnswer } from '../transport/exchange.ts';
import { repositoryOf } from '../upstream/repository.ts';
import type { Exchange } from './exchange.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { hostedTarget } from './hosted-target.ts';
import { confirmed, noteChange } from './owner-confirmation.ts';
import { writeCaller } from './passed-on.ts';
import { answerFrom, conditionsOf, type RepositoryRequest } from './registry-routes.ts';
import { bodyOf, leaveBody, leavingBodies, lengthOf } from './request-body.ts';
import type { Rights } from './rights.ts';
import type { Reply, Sender } from './send.ts';

/** The parts that the routes use. */
export interface OwnerParts {
  readonly owner: HostedOwner;
  readonly mirror: Mirror;
  readonly sender: Sender;
  readonly rights: Rights;
  /** Read each time, in milliseconds. */
  readonly clientIdleMs: number;
}

/** Headers of a push that mean something to the owner. */
const requestHeaders = ['content-type', 'content-length', 'content-range', 'accept', 'user-agent'] as const;
/** Headers of an answer to a push that mean something to the client. */
const answerHeaders: ReadonlyMap<string, string> = new Map(
  [
    'Allow',
    'Content-Type',
    'Docker-Content-Digest',
    'Link',
    'OCI-Filters-Applied',
    'Docker-Upload-UUID',
    'Location',
    'OCI-Chunk-Min-Length',
    'OCI-Subject',
    'OCI-Tag',
    'Range',
    'Retry-After',
    'Warning',
  ].map((name) => [name.toLowerCase(), name]),
);
/** Answers that are passed back are short, in bytes. */
const maxAnswerBytes = 8 * 1024 * 1024;

/**
 * Answers what concerns hosted repositories that another replica keeps: pushes and deletes are passed on to it, pulls
 * are served from the cache as far as it confirms them.
 */
export function ownerRoutes(parts: OwnerParts): Middleware {
  return leavingBodies((ctx, next) => serve(parts, ctx, next));
}

async function serve(parts: OwnerParts, ctx: Context, next: Next): Promise<void> {
  const exchange = ctx.state['exchange'] as Exchange;
  const { owner, mirror, sender } = parts;
  const target = extensionTarget(exchange, ctx.method) ?? hostedTarget(exchange, ctx.method);
  if (target === undefined || !owner.rules.isHosted(target.repository)) return next();
  requireRepository(target.repository);
  exchange.hosted = target.repository;
  if (exchange.isPeer) {
    throw new RegistryError('loop', 'this replica does not keep the hosted repositories: hosted.owner differs');
  }
  parts.rights.require(exchange, target.action, target.repository);
  if (target.kind !== 'content' || (ctx.method !== 'GET' && ctx.method !== 'HEAD')) {
    return await passOn(parts, ctx, { exchange, repository: target.repository });
  }
  const request = parseRequest(exchange.path) as RepositoryRequest;
  exchange.request = request;
  const repository = repositoryOf(owner.upstream, target.repository);
  const isHead = ctx.method === 'HEAD';
  const requireGiven = await confirmed(owner, { repository, request, exchange, isHead, isStored: mirror.isStored });
  const asked = { ctx, exchange, conditions: conditionsOf(ctx, exchange), repository, request };
  return await answerFrom({ mirror, sender, requireGiven }, asked);
}

/** An extension of a hosted repository is answered by the replica that keeps it. */
function extensionTarget({ path, query }: Exchange, method: string) {
  const name = parseExtensionPath(path)?.name;
  if (name === undefined) return undefined;
  const isQuestion = method === 'GET' || method === 'HEAD';
  const ns = new URLSearchParams(query).get('ns');
  const repository = ns === null ? name : `${ns}/${name}`;
  return { kind: 'extension', repository, action: isQuestion ? 'pull' : 'push' } as const;
}

async function passOn(
  parts: OwnerParts,
  ctx: Context,
  { exchange, repository }: { readonly exchange: Exchange; readonly repository: string },
): Promise<void> {
  const { owner, sender, clientIdleMs } = parts;
  const { req } = ctx;
  const headers: Record<string, string> = {};
  for (const name of requestHeaders) {
    const value = req.headers[name];
    if (value !== undefined) headers[name] = value;
  }
  const hasBody = req.headers['transfer-encoding'] !== undefined || (lengthOf(ctx) ?? 0) > 0;
  if (!hasBody) headers['content-length'] = '0';
  const answer = await owner.send({
    method: ctx.method,
    path: req.url ?? '',
    headers,
    body: hasBody ? piecesOf(bodyOf({ ctx, exchange, clientIdleMs })) : undefined,
    isPush: true,
    caller: writeCaller(exchange),
    signal: exchange.gone,
  });
  leaveBody(ctx);
  const reply = await replyOf(answer, exchange.gone);
  await noteChange(owner.word, { repository, method: ctx.method, exchange, reply });
  await sender.send(ctx.res, reply, exchange);
}

async function* piecesOf(batches: AsyncIterable<readonly Buffer[]>): AsyncGenerator<Buffer> {
  for await (const batch of batches) yield* batch;
}

async function replyOf(answer: WireAnswer, signal: AbortSignal): Promise<Reply> {
  const { status } = answer;
  const headers: string[] = ['Docker-Distribution-Api-Version', 'registry/2.0'];
  for (const [name, shown] of answerHeaders) {
    const value = answer.headers[name];
    if (value !== undefined) headers.push(shown, String(value));
  }
  const body = transferBody(answer, {
    idleMs: 10_000,
    expectedBytes: undefined,
    translate: (cause) =>
      signal.aborted
        ? signal.reason
        : new RegistryError('owner-away', 'the replica that keeps the hosted repositories has cut its answer', {
            cause,
          }),
  });
  const bytes = await readBounded(body, maxAnswerBytes);
  if (bytes === undefined) throw new RegistryError('bad-answer', 'the owner of the hosted repositories said too much');
  if (status === 204) return { status, headers, content: { kind: 'none' } };
  headers.push('Content-Length', String(bytes.length));
  return { status, headers, content: bytes.length === 0 ? { kind: 'none' } : { kind: 'bytes', bytes } };
}
