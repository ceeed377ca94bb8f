import { type IncomingMessage, request } from 'node:http';
import { Readable } from 'node:stream';
import type { Digest } from '../../src/oci/digest.ts';
import type { LocalBlob, LocalManifest } from '../support/images.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

/** An answer, whole. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

export interface SendOptions {
  readonly headers?: Readonly<Record<string, string>>;
  /** A list is sent piece by piece, without `Content-Length`. */
  readonly body?: Buffer | string | readonly Buffer[];
}

/** Sends one request on a connection of its own. @param target a path, or a `Location` */
export function send(
  site: { readonly origin: string },
  [method, target]: readonly [method: string, target: string],
  { headers = {}, body }: SendOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const isWhole = typeof body === 'string' || Buffer.isBuffer(body);
    const length = isWhole || body === undefined ? { 'content-length': String(Buffer.byteLength(body ?? '')) } : {};
    const asked = request(new URL(target, site.origin), { method, agent: false, headers: { ...length, ...headers } });
    asked.once('error', reject);
    asked.once('response', (response) => void whole(response).then(resolve, reject));
    if (isWhole || body === undefined) asked.end(body);
    else Readable.from(body).pipe(asked);
  });
}

async function whole(response: IncomingMessage): Promise<Answer> {
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(pieces) };
}

/** The code of an error answer. */
export function codeOf({ body }: Answer): string | undefined {
  const { errors } = JSON.parse(body.toString()) as { errors?: { code: string }[] };
  return errors?.[0]?.code;
}

export interface HostedSiteOptions {
  readonly hosted?: Readonly<Record<string, unknown>>;
  readonly cacheDir?: string;
}

/** A mirror that hosts `local/**`. */
export function startHostedSite({ hosted, cacheDir }: HostedSiteOptions = {}): Promise<TestSite> {
  return startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { hosted: { repositories: ['local/**'], ...hosted } },
    ...(cacheDir !== undefined && { cacheDir }),
  });
}

/** Begins an upload. @returns the session's `Location` */
export async function begin(site: { readonly origin: string }, repository: string, query = ''): Promise<string> {
  const { status, headers } = await send(site, ['POST', `/v2/${repository}/blobs/uploads/${query}`]);
  if (status !== 202) throw new Error(`POST answered ${status}`);
  return String(headers['location']);
}

/** Pushes a blob by POST and PUT. */
export async function pushBlob(
  site: { readonly origin: string },
  repository: string,
  { digest, bytes }: LocalBlob,
): Promise<Answer> {
  return await send(site, ['PUT', `${await begin(site, repository)}?digest=${digest}`], { body: bytes });
}

/** Pushes a manifest with all that it names. */
export async function pushImage(
  site: { readonly origin: string },
  repository: string,
  image: LocalManifest,
  tag?: string,
): Promise<Answer> {
  for (const blob of image.blobs) await pushBlob(site, repository, blob);
  for (const child of image.manifests) await pushImage(site, repository, child);
  return await putManifest(site, repository, { reference: tag ?? image.digest, manifest: image });
}

export async function putManifest(
  site: { readonly origin: string },
  repository: string,
  { reference, manifest, type = manifest.mediaType }: { reference: string; manifest: LocalBlob; type?: string },
): Promise<Answer> {
  return await send(site, ['PUT', `/v2/${repository}/manifests/${reference}`], {
    headers: { 'content-type': type },
    body: manifest.bytes,
  });
}

export function blobPath(repository: string, digest: Digest): string {
  return `/v2/${repository}/blobs/${digest}`;
}
