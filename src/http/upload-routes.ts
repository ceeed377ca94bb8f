import type { Arrived, Chunk } from '../hosted/uploads.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { type PushRequest, readChunkRange } from '../oci/push-request.ts';
import { clientAddress, clientKey } from './client-address.ts';
import { type HostedRequest, notOffered } from './hosted-request.ts';
import { emptyReply } from './replies.ts';
import { bodyOf, lengthOf } from './request-body.ts';
import type { Reply } from './send.ts';

/**
 * Answers a request about uploads (distribution-spec, "Pushing blobs"). A session ends with 201, with 400 for a wrong
 * digest, and with DELETE; it goes on after 401, 403, 413, 416 and 429.
 */
export async function answerUpload(asked: HostedRequest, request: PushRequest): Promise<void> {
  const { ctx, exchange, sender } = asked;
  const reply = request.kind === 'begin' ? await begin(asked, request) : await go(asked, request);
  await sender.send(ctx.res, reply, exchange);
}

async function begin(asked: HostedRequest, { digest, mount }: Extract<PushRequest, { kind: 'begin' }>): Promise<Reply> {
  const { ctx, hosted, repository } = asked;
  if (ctx.method !== 'POST') throw notOffered(ctx.method, 'POST');
  const mayPull = readableBy(asked);
  if (mount !== undefined && (await hosted.mountBlob(repository, mount.digest, { ...mount, mayPull }))) {
    return created(asked, mount.digest);
  }
  if (digest !== undefined) {
    if (await hosted.mountBlob(repository, digest, { from: undefined, mayPull })) return created(asked, digest);
    const length = lengthOf(ctx);
    if (length !== 0 || ctx.req.headers['transfer-encoding'] !== undefined) {
      const { id } = await hosted.uploads.begin(repository, uploaderOf(asked));
      try {
        return await finish(asked, id, digest);
      } catch (error) {
        // The client knows of no session.
        await hosted.uploads.cancel(repository, id).catch(() => undefined);
        throw error;
      }
    }
  }
  const { id } = await hosted.uploads.begin(repository, uploaderOf(asked));
  return emptyReply(202, sessionHeaders(asked, { id, received: 0 }, '0-0'));
}

/** The repositories that the caller may read; `undefined`: all. */
function readableBy({ exchange, rights }: HostedRequest): ((name: string) => boolean) | undefined {
  return exchange.caller && ((name) => rights.mayWithToken(exchange, 'pull', name));
}

async function go(asked: HostedRequest, { id, digest }: Extract<PushRequest, { kind: 'upload' }>): Promise<Reply> {
  const { ctx, hosted, repository } = asked;
  switch (ctx.method) {
    case 'GET':
    case 'HEAD': {
      const upload = await hosted.uploads.get(repository, id);
      return emptyReply(204, sessionHeaders(asked, upload, shownRange(upload.received)));
    }
    case 'PATCH': {
      const upload = await recoverably(asked, id, () => hosted.uploads.append(repository, id, chunkOf(asked)));
      return emptyReply(202, sessionHeaders(asked, upload, shownRange(upload.received, '0-0')));
    }
    case 'PUT': {
      if (digest === undefined) throw new RegistryError('bad-digest', 'the digest of the blob is missing: ?digest=');
      return await finish(asked, id, digest);
    }
    case 'DELETE':
      await hosted.uploads.cancel(repository, id);
      return emptyReply(204);
    default:
      throw notOffered(ctx.method, 'GET, HEAD, PATCH, PUT, DELETE');
  }
}

async function finish(asked: HostedRequest, id: string, digest: Digest): Promise<Reply> {
  const { hosted, repository } = asked;
  const keep = (arrived: Arrived): Promise<void> => hosted.adoptBlob(repository, digest, arrived);
  await recoverably(asked, id, () => hosted.uploads.finish(repository, id, { digest, chunk: chunkOf(asked), keep }));
  return created(asked, digest);
}

/** A chunk out of order is refused with where the session is, so that the client can go on from there. */
async function recoverably<Result>(asked: HostedRequest, id: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof RegistryError) || error.reason !== 'out-of-order') throw error;
    const upload = await asked.hosted.uploads.get(asked.repository, id);
    const names = sessionHeaders(asked, upload, shownRange(upload.received));
    const headers = Object.fromEntries(
      names.flatMap((name, at) => (at % 2 === 0 ? [[name, names[at + 1] ?? '']] : [])),
    );
    throw new RegistryError('out-of-order', error.message, { headers, cause: error });
  }
}

function chunkOf(asked: HostedRequest): Chunk {
  const { ctx } = asked;
  return {
    body: bodyOf(asked),
    range: readChunkRange(headerOf(ctx.req.headers['content-range'])),
    length: ctx.req.headers['transfer-encoding'] === undefined ? lengthOf(ctx) : undefined,
  };
}

/** Whose uploads are counted together: a caller, or the clients of an address. */
function uploaderOf({ ctx, exchange: { caller } }: HostedRequest): string {
  if (caller === undefined) return `address ${clientKey(clientAddress(ctx.req.socket))}`;
  if (caller.kind === 'anonymous') return `address ${clientKey(caller.address)}`;
  return `${caller.kind} ${caller.name}`;
}

function created({ repository }: HostedRequest, digest: Digest): Reply {
  return emptyReply(201, ['Location', `/v2/${repository}/blobs/${digest}`, 'Docker-Content-Digest', digest]);
}

function sessionHeaders(
  { hosted, repository }: HostedRequest,
  { id }: { id: string; received: number },
  range: string,
): string[] {
  return [
    'Location',
    `${hosted.rules.uploadOrigin}/v2/${repository}/blobs/uploads/${id}`,
    'Docker-Upload-UUID',
    id,
    'Range',
    range,
  ];
}

/** The range that is here, first and last byte. regctl continues after the last; docker cannot read the form for an empty one. */
function shownRange(received: number, nothing = '0--1'): string {
  return received === 0 ? nothing : `0-${received - 1}`;
}

function headerOf(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.[0];
}
