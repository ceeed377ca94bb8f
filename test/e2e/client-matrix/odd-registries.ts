import { type Answer, errorAnswer, jsonAnswer, textAnswer } from '../../support/answers.ts';
import type { LocalManifest } from '../../support/images.ts';
import type { RecordedRequest } from '../../support/recorded-request.ts';
import { type RegistryOptions, type ScriptedRegistry, startRegistry } from '../../support/registry.ts';
import { basicAuthorization, type Credentials } from '../../support/token-service.ts';
import { tag } from './clients.ts';

export const repository = 'library/app';

/** A registry that answers in a way of its own, as some public one does. */
export interface OddRegistry {
  readonly name: string;
  readonly options?: RegistryOptions;
  /** Called when it has its artifact. */
  readonly prepare?: (registry: ScriptedRegistry) => unknown;
  /** What comes before the repository in its paths. */
  readonly prefix?: string;
  /** What a client and the mirror need. */
  readonly credentials?: Credentials;
  /** `npm test` tries it too. */
  readonly isShort?: boolean;
}

const isHead = ({ method }: RecordedRequest): boolean => method === 'HEAD';
const isGet = ({ method }: RecordedRequest): boolean => method === 'GET';
const isBlob = ({ path }: RecordedRequest): boolean => path.includes('/blobs/');
const isBlobGet = (request: RecordedRequest): boolean => isBlob(request) && isGet(request);
const isManifest = ({ path }: RecordedRequest): boolean => path.includes('/manifests/');
const isManifestGet = (request: RecordedRequest): boolean => isManifest(request) && isGet(request);
const isPing = ({ path }: RecordedRequest): boolean => path === '/v2/';
const headers = (given: Readonly<Record<string, string | undefined>>) => ({ kind: 'headers', headers: given }) as const;

const credentials: Credentials = { username: 'u', password: 'p' };

/** Asks for credentials at `/v2/` alone, and refuses everything else without a challenge (containerd#3291). */
function challengeOnPing(status: number): (request: RecordedRequest) => Answer | undefined {
  return (request) => {
    if (request.headers.authorization === basicAuthorization(credentials)) return undefined;
    if (isPing(request)) return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="r"' });
    return errorAnswer(status, 'NAME_UNKNOWN');
  };
}

/** Gives tokens for another scope than the path's, which its challenge names (harbor#14128). */
function otherScope(): (request: RecordedRequest) => Answer | undefined {
  const scope = 'repository:org/app:pull';
  return ({ path, query, headers: sent }) => {
    if (path === '/token')
      return jsonAnswer({ token: Buffer.from(query.getAll('scope').join(' ')).toString('base64url') });
    const token = Buffer.from((sent.authorization ?? '').replace(/^Bearer /, ''), 'base64url').toString();
    if (token.split(' ').includes(scope)) return undefined;
    const realm = `http://${sent.host}/token`;
    const challenge = `Bearer realm="${realm}",service="reg",scope="${scope}"`;
    return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': challenge });
  };
}

/** Has the tokens of an issuer, and asks for them in one of the ways that challenges are written. */
function challengeAs(
  write: (realm: string, scope: string) => string,
): (request: RecordedRequest) => Answer | undefined {
  return ({ path, headers: sent }) => {
    if (path === '/token') return jsonAnswer({ access_token: 'T' });
    if (sent.authorization === 'Bearer T') return undefined;
    const challenge = write(`http://${sent.host}/token`, `repository:${repository}:pull`);
    return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': challenge });
  };
}

const of = (name: string, prepare: (registry: ScriptedRegistry) => unknown, isShort = false): OddRegistry => ({
  name,
  prepare,
  isShort,
});

export const oddRegistries: readonly OddRegistry[] = [
  { name: 'that behaves', isShort: true },
  // Tokens and challenges
  { name: 'with tokens', options: { token: {} }, isShort: true },
  { name: 'with access_token', options: { token: { field: 'access_token' } } },
  { name: 'whose challenge names no scope', options: { token: { challengeScope: undefined } } },
  {
    name: 'whose repositories have a prefix, with tokens',
    options: { token: {} },
    prefix: 'hub-proxy/',
    isShort: true,
  },
  { name: 'whose tokens have another scope', options: { instead: otherScope() } },
  {
    name: 'that writes its challenge without quotes',
    options: { instead: challengeAs((realm, scope) => `Bearer realm="${realm}",service=reg,scope="${scope}"`) },
  },
  {
    name: 'that writes its challenge in lower case, with blanks',
    options: { instead: challengeAs((realm, scope) => `bearer realm="${realm}", service="reg", scope="${scope}"`) },
  },
  {
    name: 'that writes its challenge with an error',
    options: {
      instead: challengeAs((realm, scope) => `Bearer realm="${realm}",scope="${scope}",error="invalid_token"`),
    },
  },
  { name: 'with Basic credentials', options: { basic: credentials }, credentials },
  { name: 'with tokens for credentials', options: { token: { credentials } }, credentials },
  { name: 'that asks for credentials at /v2/ alone', options: { instead: challengeOnPing(401) }, credentials },
  { name: 'that hides what it has, and asks at /v2/', options: { instead: challengeOnPing(404) }, credentials },
  {
    name: 'whose token service answers 503 once',
    options: { token: {} },
    prepare: (registry) => registry.tokenServer.place(undefined, { kind: 'status', status: 503 }, { times: 1 }),
    isShort: true,
  },
  {
    name: 'whose token service redirects',
    options: { token: {} },
    prepare: (registry) =>
      registry.tokenServer.place(
        undefined,
        { kind: 'redirect-to', location: `/token?again=1&scope=repository:${repository}:pull` },
        { times: 1 },
      ),
  },
  of('whose ping is not found', (registry) => registry.fault(isPing, { kind: 'status', status: 404 })),
  // HEAD
  ...[400, 401, 403, 404, 405, 429, 500, 501].map((status) =>
    of(
      `that answers a HEAD with ${status}`,
      (registry) => registry.fault(isHead, { kind: 'status', status }),
      status === 404,
    ),
  ),
  of('whose HEADs have a length of 0', (registry) => registry.fault(isHead, headers({ 'Content-Length': '0' }))),
  of('whose HEADs have no digest', (registry) =>
    registry.fault(isHead, headers({ 'Docker-Content-Digest': undefined })),
  ),
  of('whose HEADs have another type', (registry) => registry.fault(isHead, headers({ 'Content-Type': 'text/html' }))),
  // Manifests
  ...['application/json', 'application/octet-stream', 'text/plain; charset=utf-8', undefined].map((type) =>
    of(
      `whose manifests are ${type ?? 'of no type'}`,
      (registry) => registry.fault(isManifest, headers({ 'Content-Type': type })),
      type === 'application/json',
    ),
  ),
  of('whose manifests have a type with a parameter', (registry) =>
    registry.fault(
      isManifest,
      headers({ 'Content-Type': 'application/vnd.oci.image.manifest.v1+json; charset=utf-8' }),
    ),
  ),
  of(
    'without Docker-Content-Digest',
    (registry) => registry.fault(isManifest, headers({ 'Docker-Content-Digest': undefined })),
    true,
  ),
  of('that redirects manifests', (registry) => registry.fault(isManifestGet, { kind: 'redirect', reusable: true })),
  ...[500, 502, 503, 504].map((status) =>
    of(`that answers a manifest with ${status} once`, (registry) =>
      registry.fault(isManifestGet, { kind: 'status', status }, { times: 1 }),
    ),
  ),
  of('that resets the first manifest', (registry) => registry.fault(isManifestGet, { kind: 'reset' }, { times: 1 })),
  of('that limits the first manifest', (registry) =>
    registry.fault(isManifestGet, { kind: 'status', status: 429, headers: { 'Retry-After': '1' } }, { times: 1 }),
  ),
  // Blobs
  ...['binary', 'aws-chunked', 'gzip', 'x-gzip', 'identity', ''].map((label) =>
    of(
      `that labels blobs '${label}'`,
      (registry) => registry.fault(isBlobGet, headers({ 'Content-Encoding': label })),
      label === 'binary',
    ),
  ),
  ...([301, 302, 303, 307, 308] as const).map((status) =>
    of(
      `that redirects blobs with ${status}`,
      (registry) => registry.fault(isBlobGet, { kind: 'redirect', status }),
      status === 307,
    ),
  ),
  of('that answers blobs with 203', (registry) => registry.fault(isBlobGet, { kind: 'other-status', status: 203 })),
  of('that answers blobs with 206', (registry) => registry.fault(isBlobGet, { kind: 'other-status', status: 206 })),
  of('that sends chunks', (registry) => registry.fault(undefined, { kind: 'chunked' }), true),
  of('that ignores ranges', (registry) => registry.fault(undefined, { kind: 'ignore-range' })),
  of('whose blobs are HTML by their type', (registry) =>
    registry.fault(isBlobGet, headers({ 'Content-Type': 'text/html' })),
  ),
  ...[408, 429, 500, 502, 503, 504].map((status) =>
    of(`that answers a blob with ${status} once`, (registry) =>
      registry.fault(isBlobGet, { kind: 'status', status }, { times: 1 }),
    ),
  ),
  of('that resets the first blob', (registry) => registry.fault(isBlobGet, { kind: 'reset' }, { times: 1 })),
  of('that cuts the first blob', (registry) =>
    registry.fault(isBlobGet, { kind: 'cut', afterBytes: 50 }, { times: 1 }),
  ),
  of('whose blobs are longer than they are', (registry) =>
    registry.fault(isBlobGet, { kind: 'content-length', difference: 5 }, { times: 1 }),
  ),
  of('that turns a bit of a blob', (registry) => registry.fault(isBlobGet, { kind: 'flip' })),
  // All of it
  {
    name: 'without the header of its version',
    prepare: (registry) => registry.fault(undefined, headers({ 'Docker-Distribution-Api-Version': undefined })),
  },
  { name: 'that closes each connection', options: { headers: { Connection: 'close' } } },
  { name: 'that answers everything through another path', options: { instead: throughAnotherPath() } },
];

/** Redirects each request to itself with a query, as proxies do that count visits. */
function throughAnotherPath(): (request: RecordedRequest) => Answer | undefined {
  return ({ path, query }) => (query.has('seen') ? undefined : textAnswer(307, '', { Location: `${path}?seen=1` }));
}

/** Starts an odd registry that has an artifact. */
export async function startOdd(odd: OddRegistry, artifact: LocalManifest): Promise<ScriptedRegistry> {
  const registry = await startRegistry(odd.options ?? {});
  const name = `${odd.prefix ?? ''}${repository}`;
  for (const { bytes, mediaType } of artifact.blobs) registry.addBlob(bytes, { repository: name, mediaType });
  registry.addManifest(name, tag, artifact.bytes, artifact.mediaType);
  odd.prepare?.(registry);
  return registry;
}
