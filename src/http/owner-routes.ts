import type { Context, Middleware, Next } from 'koa';
import type { HostedRules } from '../hosted/rules.ts';
import type { Mirror } from '../mirror/mirror.ts';
import { isTransient, RegistryError } from '../oci/error.ts';
import { parseExtensionPath } from '../oci/extension-path.ts';
import { parseRequest } from '../oci/request.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import type { WireAnswer } from '../transport/exchange.ts';
import { type Repository, repositoryOf } from '../upstream/repository.ts';
import type { Upstream } from '../upstream/upstream.ts';
import type { Rights } from './callers.ts';
import type { Exchange } from './exchange.ts';
import { holdHeader } from './hold-gate.ts';
import { hostedTarget } from './hosted-target.ts';
import { writeCaller } from './passed-on.ts';
import { answerFrom, conditionsOf, type RepositoryRequest } from './registry-routes.ts';
import { bodyOf, leaveBody, leavingBodies, lengthOf } from './request-body.ts';
import type { Reply, Sender } from './send.ts';

/** The replica that keeps the hosted repositories, as this one reaches it. */
export interface HostedOwner {
  /** What is read of it. */
  readonly upstream: Upstream;
  readonly rules: HostedRules;
  /** @throws RegistryError 503 where it cannot be reached; what reading the body throws; the signal's reason */
  send(request: {
    readonly method: string;
    readonly path: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: AsyncIterable<Buffer> | undefined;
    readonly isPush: boolean;
    /** Who asks, as {@link writeCaller} writes it. */
    readonly caller: string | undefined;
    readonly signal: AbortSignal;
  }): Promise<WireAnswer>;
}

/** What the routes need. */
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
  exchange.hosted = target.repository;
  if (exchange.isPeer) {
    throw new RegistryError('loop', 'this replica does not keep the hosted repositories: hosted.owner differs');
  }
  parts.rights.require(exchange, target.action, target.repository);
  if (target.kind !== 'content' || (ctx.method !== 'GET' && ctx.method !== 'HEAD')) {
    return await passOn(parts, ctx, exchange);
  }
  const request = parseRequest(exchange.path) as RepositoryRequest;
  exchange.request = request;
  const repository = repositoryOf(owner.upstream, target.repository);
  await requireConfirmed(owner, { repository, request, exchange, isHead: ctx.method === 'HEAD' });
  const asked = { ctx, exchange, conditions: conditionsOf(ctx, exchange), repository, request };
  return await answerFrom({ mirror, sender }, asked);
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

/**
 * What was deleted is gone on every replica at once, and what is held is held at each: what is cached counts only while
 * the owner cannot be asked.
 */
async function requireConfirmed(
  owner: HostedOwner,
  asked: {
    readonly repository: Repository;
    readonly request: RepositoryRequest;
    readonly exchange: Exchange;
    readonly isHead: boolean;
  },
): Promise<void> {
  const { repository, request, exchange, isHead } = asked;
  if (request.kind !== 'manifest' && request.kind !== 'blob') return;
  const last =
    request.kind === 'blob'
      ? `blobs/${request.digest}`
      : `manifests/${'tag' in request.reference ? request.reference.tag : request.reference.digest}`;
  let answer: WireAnswer;
  try {
    answer = await owner.send({
      method: 'HEAD',
      path: `/v2/${repository.name}/${last}`,
      headers: isHead ? {} : { [holdHeader]: 'check' },
      body: undefined,
      isPush: false,
      caller: writeCaller(exchange),
      signal: exchange.signal,
    });
  } catch (error) {
    if (!isTransient(error)) throw error;
    return;
  }
  answer.stream.resume();
  if (answer.status === 404) {
    const code = request.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN';
    throw new RegistryError('not-found', `${repository.name} has no such ${request.kind}`, { code });
  }
  if (answer.status === 403) {
    const [, said] = /299 - "([^"]*)"/.exec(answer.headers.warning ?? '') ?? [];
    throw new RegistryError('held', said ?? 'no policy of this mirror allows this to you');
  }
}

async function passOn(parts: OwnerParts, ctx: Context, exchange: Exchange): Promise<void> {
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
    body: hasBody ? bodyOf({ ctx, exchange, clientIdleMs }) : undefined,
    isPush: true,
    caller: writeCaller(exchange),
    signal: exchange.gone,
  });
  leaveBody(ctx);
  await sender.send(ctx.res, await replyOf(answer, exchange.gone), exchange);
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
