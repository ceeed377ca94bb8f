import { open } from 'node:fs/promises';
import type { Context, Middleware, Next } from 'koa';
import type { HostedBlob } from '../hosted/blobs.ts';
import { referrersIndex } from '../hosted/referrers.ts';
import type { BlobBody } from '../mirror/body.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { ociIndex, octetStream } from '../oci/media-types.ts';
import { tagParameters } from '../oci/push-request.ts';
import { type ManifestReference, parseRequest, type RegistryRequest, requireRepository } from '../oci/request.ts';
import type { Exchange } from './exchange.ts';
import { heldHeader, holdHeader } from './hold-gate.ts';
import { type HostedParts, type HostedRequest, notOffered } from './hosted-request.ts';
import { hostedTarget } from './hosted-target.ts';
import { conditionsOf } from './registry-routes.ts';
import { blobReply, emptyReply, jsonReply, manifestReply } from './replies.ts';
import { leavingBodies, readBody } from './request-body.ts';
import { answerUpload } from './upload-routes.ts';

/** Answers what concerns repositories that live here alone: pulls and pushes. `ns` chooses nothing for a push. */
export function hostedRoutes(parts: HostedParts): Middleware {
  return leavingBodies((ctx, next) => serve(parts, ctx, next));
}

async function serve(parts: HostedParts, ctx: Context, next: Next): Promise<void> {
  const exchange = ctx.state['exchange'] as Exchange;
  const target = hostedTarget(exchange, ctx.method);
  if (target === undefined || !parts.hosted.rules.isHosted(target.repository)) return next();
  const { repository } = target;
  // A file system may take capitals for small letters, and rules do not.
  requireRepository(repository);
  exchange.hosted = repository;
  parts.rights.require(exchange, target.action, repository);
  const asked = { ...parts, ctx, exchange, repository };
  if (target.kind === 'upload') return await answerUpload(asked, target.upload);
  const request = parseRequest(exchange.path);
  exchange.request = request;
  return await answer(asked, request);
}

async function answer(asked: HostedRequest, request: RegistryRequest): Promise<void> {
  switch (request.kind) {
    case 'manifest':
      return await answerManifest(asked, request.reference);
    case 'blob':
      return await answerBlob(asked, request.digest);
    case 'tags':
      return await answerTags(asked);
    case 'referrers':
      return await answerReferrers(asked, request.digest);
    case 'ping':
      return;
    default:
      request satisfies never;
  }
}

async function answerManifest(asked: HostedRequest, reference: ManifestReference): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  switch (ctx.method) {
    case 'GET':
    case 'HEAD': {
      const found = await hosted.manifests.get(repository, reference);
      if (found === undefined) throw unknownManifest(repository);
      const isAskedForClient = ctx.req.headers[holdHeader] !== undefined;
      const isOfReplica = exchange.isPeer && !isAskedForClient;
      // A HEAD reveals only the digest, and clients that push need it.
      if (!isOfReplica && (ctx.method === 'GET' || isAskedForClient)) {
        asked.gate.require(exchange, { repository, digest: found.digest, isKnown: true });
      }
      exchange.outcome = 'hit';
      const { bytes, ...head } = found;
      const manifest = { ...head, size: bytes.length, outcome: 'hit' as const };
      const conditions = { ...conditionsOf(ctx, exchange), byDigest: reference.kind === 'digest' };
      const reply = manifestReply({ ...manifest, bytes }, conditions);
      // A replica does not give it while this one cannot be asked.
      const isNoted = exchange.isPeer && asked.gate.isHeld(repository, found.digest);
      const headers = isNoted ? [...reply.headers, heldHeader, found.digest] : reply.headers;
      return await sender.send(ctx.res, { ...reply, headers }, exchange);
    }
    case 'PUT':
      return await putManifest(asked, reference);
    case 'DELETE':
      if (reference.kind === 'tag') await hosted.manifests.deleteTag(repository, reference.tag);
      else await hosted.manifests.delete(repository, reference.digest);
      return await sender.send(ctx.res, emptyReply(202), exchange);
    default:
      throw notOffered(ctx.method, 'GET, HEAD, PUT, DELETE');
  }
}

async function putManifest(asked: HostedRequest, reference: ManifestReference): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  const parameters = tagParameters(exchange.query);
  const tags = reference.kind === 'tag' ? [reference.tag, ...parameters] : parameters;
  const bytes = await readBody(asked, { maxBytes: hosted.maxManifestBytes });
  const { digest, subject } = await hosted.manifests.put(repository, {
    bytes,
    contentType: ctx.req.headers['content-type'] ?? '',
    digest: reference.kind === 'digest' ? reference.digest : undefined,
    tags,
  });
  const headers = ['Location', `/v2/${repository}/manifests/${digest}`, 'Docker-Content-Digest', digest];
  if (subject !== undefined) headers.push('OCI-Subject', subject);
  for (const tag of parameters) headers.push('OCI-Tag', tag);
  await sender.send(ctx.res, emptyReply(201, headers), exchange);
}

async function answerBlob(asked: HostedRequest, digest: Digest): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  switch (ctx.method) {
    case 'GET':
    case 'HEAD': {
      const found = await hosted.blobs.get(repository, digest);
      const isHead = ctx.method === 'HEAD';
      // A client that gets 200 does not push the blob: keep it for the manifest that follows.
      if (found === undefined || (isHead && !(await hosted.blobs.renew(repository, digest)))) {
        throw unknownBlob(repository);
      }
      await requireReleased(asked, digest);
      exchange.outcome = 'hit';
      const head = { digest, size: found.size, contentType: octetStream, outcome: 'hit' as const };
      const conditions = conditionsOf(ctx, exchange);
      if (isHead) return await sender.send(ctx.res, blobReply(head, conditions), exchange);
      await using body = await fileBody(found);
      return await sender.send(ctx.res, blobReply({ ...head, body }, conditions), exchange);
    }
    case 'DELETE':
      await hosted.deleteBlob(repository, digest);
      return await sender.send(ctx.res, emptyReply(202), exchange);
    default:
      throw notOffered(ctx.method, 'GET, HEAD, DELETE');
  }
}

/** A manifest is a blob of its repository, too: what holds it holds it there. @throws RegistryError DENIED */
async function requireReleased(
  { ctx, exchange, gate, hosted, repository }: HostedRequest,
  digest: Digest,
): Promise<void> {
  const isAskedForClient = ctx.req.headers[holdHeader] !== undefined;
  if (!gate.isOn || (exchange.isPeer && !isAskedForClient) || (ctx.method === 'HEAD' && !isAskedForClient)) return;
  if ((await hosted.repositories.manifest(repository, digest)) === undefined) return;
  gate.require(exchange, { repository, digest, isKnown: true });
}

/** The tags, in byte order, a page at a time where `n` is given (distribution-spec, "Listing Tags"). */
async function answerTags(asked: HostedRequest): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  requirePull(ctx.method);
  const parameters = new URLSearchParams(exchange.query);
  const all = await hosted.repositories.tags(repository);
  if (all.length === 0 && (await hosted.repositories.manifests(repository)).length === 0) {
    throw new RegistryError('not-found', `there is no repository ${repository} here`, { code: 'NAME_UNKNOWN' });
  }
  const last = parameters.get('last') ?? '';
  const after = all.filter((tag) => tag > last);
  const n = /^\d{1,9}$/.test(parameters.get('n') ?? '') ? Number(parameters.get('n')) : after.length;
  const tags = after.slice(0, n);
  const headers: string[] = [];
  if (n > 0 && tags.length < after.length) {
    const next = new URLSearchParams(parameters);
    next.set('last', tags.at(-1) ?? '');
    headers.push('Link', `<${exchange.path}?${next.toString()}>; rel="next"`);
  }
  await sender.send(
    ctx.res,
    jsonReply({ name: repository, tags }, { ...conditionsOf(ctx, exchange), headers }),
    exchange,
  );
}

async function answerReferrers(asked: HostedRequest, subject: Digest): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  requirePull(ctx.method);
  const wanted = new URLSearchParams(exchange.query).get('artifactType');
  const all = await hosted.manifests.referrers(repository, subject);
  const found = wanted === null ? all : all.filter(({ artifactType }) => artifactType === wanted);
  const headers = wanted === null ? [] : ['OCI-Filters-Applied', 'artifactType'];
  const conditions = { ...conditionsOf(ctx, exchange), headers, contentType: ociIndex };
  await sender.send(ctx.res, jsonReply(referrersIndex(found), conditions), exchange);
}

async function fileBody({ path, size }: HostedBlob): Promise<BlobBody> {
  const handle = await open(path, 'r');
  return {
    bytes: undefined,
    async read(buffer, position) {
      if (position >= size) return 0;
      return (await handle.read(buffer, 0, Math.min(buffer.length, size - position), position)).bytesRead;
    },
    peek: () => undefined,
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

function requirePull(method: string): void {
  if (method !== 'GET' && method !== 'HEAD') throw notOffered(method, 'GET, HEAD');
}

function unknownManifest(repository: string): RegistryError {
  return new RegistryError('not-found', `${repository} has no such manifest`);
}

function unknownBlob(repository: string): RegistryError {
  return new RegistryError('not-found', `${repository} has no such blob`, { code: 'BLOB_UNKNOWN' });
}
