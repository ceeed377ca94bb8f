import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Context, Middleware } from 'koa';
import type { PeerBlob, PeerQuestion, PeerService } from '../mirror/sharing/peer-service.ts';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { contentRange } from '../oci/range.ts';
import type { Report } from '../oci/report.ts';
import type { ReplicaAnswers } from '../replicas/answers.ts';
import { readQuestion } from '../replicas/question.ts';
import type { Exchange } from './exchange.ts';
import { answersPath, isReplicaPath } from './replica-paths.ts';
import type { Reply, Sender } from './send.ts';

/** Interval of interim responses to a replica that waits for bytes, in milliseconds. */
const patienceMs = 1_000;
/** Longest wait for bytes before a replica is sent elsewhere, in milliseconds. */
const longestWaitMs = 30_000;

const pathForm = /^\/v2\/_millpond\/blobs\/([^/]+)$/;
const wants: readonly string[] = ['stored', 'filling', 'fill', 'copy'] satisfies PeerQuestion['want'][];

export interface PeerRoutesOptions {
  /** Whether a request comes from a replica of ours. @param url with its query */
  readonly admit: (request: {
    readonly method: string;
    readonly url: string;
    readonly range: string | undefined;
    readonly pass: string | undefined;
    /** On whose behalf the request is passed on. */
    readonly caller?: string | undefined;
  }) => { readonly from: string } | { readonly refused: string };
  /** Says which replica this is, sealed, to one that asks with a nonce. */
  readonly identify: (nonce: string) => string;
  /** Receives each request that was admitted or refused, and the bytes sent for it. */
  readonly report: Report<{ readonly result: string; readonly bytes: number }>;
}

/**
 * Millpond's own extension between replicas: blobs by digest, and what upstreams have said, for those that have the common
 * secret.
 */
export function peerRoutes(
  { service, answers, sender }: { service: PeerService; answers: ReplicaAnswers; sender: Sender },
  options: PeerRoutesOptions | undefined,
): Middleware {
  return function serveReplica(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    if (!isReplicaPath(exchange.path)) return next();
    const [, text = ''] = pathForm.exec(exchange.path) ?? [];
    const isQuestion = exchange.path === answersPath;
    if (options === undefined || !(isQuestion || isDigest(text))) {
      throw new RegistryError('no-endpoint', 'this mirror has nothing at that path', { code: 'UNSUPPORTED' });
    }
    exchange.isPeer = true;
    const admission = options.admit({
      method: ctx.method,
      url: ctx.req.url ?? '',
      range: ctx.req.headers.range,
      pass: headerOf(ctx.req, 'millpond-pass'),
    });
    if ('refused' in admission) {
      options.report({ result: admission.refused, bytes: 0 });
      throw new RegistryError('not-allowed', 'only replicas of this mirror are served here');
    }
    if (isQuestion) return tell(ctx, { answers, sender, exchange, options });
    return answer(ctx, { service, sender, exchange, digest: text as Digest, options });
  };
}

/** Answers a question about what an upstream has said, as JSON. */
async function tell(
  ctx: Context,
  parts: { answers: ReplicaAnswers; sender: Sender; exchange: Exchange; options: PeerRoutesOptions },
): Promise<void> {
  const { answers, sender, exchange, options } = parts;
  const question = readQuestion(exchange.query);
  if (question === undefined) throw new RegistryError('bad-name', 'another replica asks something unknown');
  const found = await answers.answer(question);
  options.report({ result: found ? 'ok' : 'absent', bytes: 0 });
  if (!found) return await sender.send(ctx.res, plain(404), exchange);
  const bytes = Buffer.from(JSON.stringify(found));
  const headers = [
    'Content-Type',
    'application/json',
    'Cache-Control',
    'no-store',
    'Content-Length',
    String(bytes.length),
  ];
  await sender.send(ctx.res, { status: 200, headers, content: { kind: 'bytes', bytes } }, exchange);
}

async function answer(
  ctx: Context,
  parts: {
    service: PeerService;
    sender: Sender;
    exchange: Exchange;
    digest: Digest;
    options: PeerRoutesOptions;
  },
): Promise<void> {
  const { service, sender, exchange, digest, options } = parts;
  const question = questionOf(ctx, exchange);
  if (question.want === 'copy') {
    const isHere = await service.copy(digest, question);
    options.report({ result: isHere ? 'ok' : 'absent', bytes: 0 });
    await sender.send(ctx.res, plain(isHere ? 202 : 404), exchange);
    return;
  }
  const blob = await waiting(ctx.res, () => service.open(digest, question));
  if (!blob) {
    options.report({ result: 'absent', bytes: 0 });
    await sender.send(ctx.res, plain(404), exchange);
    return;
  }
  await using _body: AsyncDisposable = blob.body;
  try {
    await sender.send(ctx.res, blobReply(blob, { question, range: ctx.req.headers.range }), exchange);
    options.report({ result: 'ok', bytes: exchange.sentBytes });
  } catch (error) {
    options.report({ result: 'cut', bytes: exchange.sentBytes });
    throw error;
  }
}

/** Sends interim responses while the headers are not known yet (RFC 9110, 15.2; 102 of RFC 2518). */
async function waiting<Value>(response: ServerResponse, work: () => Promise<Value>): Promise<Value> {
  const timer = setInterval(() => {
    if (!response.headersSent && !response.destroyed) response.writeProcessing();
  }, patienceMs);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}

function questionOf(ctx: Context, exchange: Exchange): PeerQuestion {
  const query = new URLSearchParams(exchange.query);
  const want = query.get('want') ?? 'stored';
  if (!wants.includes(want)) throw new RegistryError('bad-name', 'another replica asks for something unknown');
  const [, start = '0'] = /^bytes=(\d{1,15})-/.exec(ctx.req.headers.range ?? '') ?? [];
  return {
    want: want as PeerQuestion['want'],
    offset: Number(start),
    through: query.get('through') ?? undefined,
    access: query.get('access') ?? undefined,
    signal: AbortSignal.any([exchange.gone, AbortSignal.timeout(longestWaitMs)]),
  };
}

function blobReply(
  { size, contentType, body }: PeerBlob,
  { question, range }: { question: PeerQuestion; range: string | undefined },
): Reply {
  const headers = ['Content-Type', contentType, 'Cache-Control', 'no-store'];
  // Without a size there is nothing to say about a part: all of it is sent.
  if (size === undefined) {
    return { status: 200, headers, content: { kind: 'body', body, start: 0, end: undefined, early: true } };
  }
  const { offset } = question;
  if (offset > size || (offset === size && size > 0)) {
    throw new RegistryError('bad-range', 'the range lies outside the blob');
  }
  const [, last] = /^bytes=\d+-(\d{1,15})$/.exec(range ?? '') ?? [];
  const end = Math.min(size, last === undefined ? size : Number(last) + 1);
  headers.push('Content-Length', String(end - offset));
  if (range !== undefined) headers.push('Content-Range', contentRange({ start: offset, end }, size));
  const { bytes } = body;
  return {
    status: range === undefined ? 200 : 206,
    headers,
    content: bytes
      ? { kind: 'bytes', bytes: bytes.subarray(offset, end) }
      : { kind: 'body', body, start: offset, end, early: true },
  };
}

function plain(status: number): Reply {
  return { status, headers: ['Content-Length', '0'], content: { kind: 'none' } };
}

function headerOf(request: IncomingMessage, name: string): string | undefined {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
}
