import { randomUUID } from 'node:crypto';
import type { ServerOptions } from 'node:https';
import { ociIndex } from '../../src/oci/media-types.ts';
import { type Answer, errorAnswer, jsonAnswer, rangeAnswer, tagsAnswer, textAnswer } from './answers.ts';
import { RegistryContents } from './contents.ts';
import type { Fault, PlacedFault } from './faults.ts';
import { matches, type RecordedRequest, type RequestFilter } from './recorded-request.ts';
import { ScriptedServer } from './scripted-server.ts';
import { createThrottle } from './throttle.ts';
import { basicAuthorization, type Credentials, TokenIssuer, type TokenServiceOptions } from './token-service.ts';

export interface RegistryOptions {
  /** Address to listen on (default 127.0.0.1). */
  readonly host?: string;
  /** Address of the other origin that redirects lead to (default: the same, another port). */
  readonly cdnHost?: string;
  /** Asks for Bearer tokens of an own token service. */
  readonly token?: TokenServiceOptions;
  /** Asks for Basic credentials. */
  readonly basic?: Credentials;
  /** Answers in place of the registry where it returns something: other ways to demand credentials. */
  readonly instead?: (request: RecordedRequest) => Answer | undefined;
  readonly tls?: ServerOptions;
  /** False: no referrers API; referrers are then kept under the fallback tag (default true). */
  readonly referrers?: boolean;
  /** False: no `Docker-Content-Digest` (default true). */
  readonly digestHeader?: boolean;
  /** How `Link` of a page of tags is written (default relative). `opaque` gives a token in place of `last`. */
  readonly linkStyle?: 'relative' | 'absolute' | 'opaque';
  /** Most tags on a page, also where `n` says more or nothing. */
  readonly tagPageSize?: number;
  readonly bytesPerSecond?: { readonly total?: number; readonly perConnection?: number };
  /** Before the headers of each answer. */
  readonly latencyMs?: number;
  /** On every answer, e.g. `ratelimit-remaining`. */
  readonly headers?: Readonly<Record<string, string>>;
}

const registryPath = /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/]+)$/;
const digestInPath = /\/(?:manifests|blobs|referrers)\/(sha(?:256|512):[0-9a-f]+)$/;

/** A registry whose contents are made in memory, that records every request and fails on demand. */
export class ScriptedRegistry extends RegistryContents implements AsyncDisposable {
  readonly #options: RegistryOptions;
  readonly #server: ScriptedServer;
  readonly #signed = new Map<string, { readonly path: string; readonly reusable: boolean }>();
  /** The other origin: where redirects lead, with addresses that are good once. */
  readonly cdn: ScriptedServer;
  readonly tokens: TokenIssuer;
  /** The token service; it answers at `/token` of the registry, and at an address of its own. */
  readonly tokenServer: ScriptedServer;

  constructor(options: RegistryOptions) {
    super();
    this.#options = options;
    this.keepFallbackTags = options.referrers === false;
    this.tokens = new TokenIssuer(options.token ?? {});
    const { total, perConnection } = options.bytesPerSecond ?? {};
    const { instead: _, ...shared } = options;
    const common = {
      ...shared,
      throttle: total ? createThrottle(total) : undefined,
      bytesPerSecondPerConnection: perConnection,
      signedUrl: (path: string, reusable: boolean) => this.#sign(path, reusable),
    };
    const host = options.host ?? '127.0.0.1';
    const digestOf = (path: string): string | undefined => digestInPath.exec(path)?.[1];
    this.#server = new ScriptedServer({
      ...common,
      host,
      digestOf,
      answer: (request) => this.#answer(request),
      instead: (path) => (path === '/token' && options.token !== undefined ? this.tokenServer : undefined),
    });
    this.cdn = new ScriptedServer({
      ...common,
      host: options.cdnHost ?? host,
      digestOf: (path) => digestOf(this.#signed.get(path)?.path ?? ''),
      answer: (request) => this.#cdnAnswer(request),
    });
    this.tokenServer = new ScriptedServer({
      ...common,
      host: options.token?.host ?? host,
      digestOf: () => undefined,
      answer: (request) => this.tokens.answer(request),
    });
  }

  /** `http://127.0.0.1:40123` */
  get origin(): string {
    return this.#server.origin;
  }

  /** `127.0.0.1:40123` */
  get host(): string {
    return this.#server.host;
  }

  /** Every request to the registry itself, in the order of arrival; those to the others are with `cdn`, `tokenServer`. */
  get requests(): readonly RecordedRequest[] {
    return this.#server.requests;
  }

  /** Connections to the registry that are open now. */
  get openConnections(): number {
    return this.#server.openConnections;
  }

  /** Whether a connection to the registry is open now. @param number as {@link RecordedRequest.connection} has it */
  isOpen(number: number): boolean {
    return this.#server.isOpen(number);
  }

  /** The requests to the registry that a filter takes, whatever their method and outcome. */
  requestsFor(filter: RequestFilter): RecordedRequest[] {
    return this.requests.filter((request) => matches(filter, request));
  }

  /** Bytes of bodies sent for a digest, by the registry and by the other origin. */
  bytesSent(digest: string): number {
    return [...this.requests, ...this.cdn.requests]
      .filter((request) => request.digest === digest)
      .reduce((sum, request) => sum + request.bytesSent, 0);
  }

  /** Forgets what has been asked so far, so that a second pull can be counted alone. */
  forgetRequests(): void {
    for (const server of [this.#server, this.cdn, this.tokenServer]) server.requests.length = 0;
  }

  /** Makes the registry fail; `times` says for how many requests (default: until released or cleared). */
  fault(filter: RequestFilter | undefined, fault: Fault, options: { readonly times?: number } = {}): PlacedFault {
    return this.#server.place(filter, fault, options);
  }

  clearFaults(): void {
    for (const server of [this.#server, this.cdn, this.tokenServer]) server.clearFaults();
  }

  /** Listens again, on the port it had. */
  async resume(): Promise<void> {
    await this.#server.listen();
    await this.cdn.listen();
    if (this.#options.token !== undefined) await this.tokenServer.listen();
  }

  /** Is gone until `resume`: connections are refused, open ones closed. */
  async suspend(): Promise<void> {
    await Promise.all([this.#server.suspend(), this.cdn.suspend(), this.tokenServer.suspend()]);
  }

  /** Ends every server and connection, stalled ones too. */
  async close(): Promise<void> {
    for (const server of [this.#server, this.cdn, this.tokenServer]) await server[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #sign(path: string, reusable: boolean): string {
    const signedPath = `/signed/${randomUUID()}`;
    this.#signed.set(signedPath, { path, reusable });
    return `${this.cdn.origin}${signedPath}?X-Signature=${randomUUID()}&X-Expires=600`;
  }

  #cdnAnswer(request: RecordedRequest): Answer {
    const signed = this.#signed.get(request.path);
    if (signed === undefined) return textAnswer(403, '<Error><Code>AccessDenied</Code></Error>');
    if (!signed.reusable) this.#signed.set(request.path, { path: '/expired', reusable: false });
    // S3 refuses a signed address that comes with a second kind of authorization.
    if (request.headers.authorization !== undefined)
      return textAnswer(400, '<Error><Code>InvalidArgument</Code></Error>');
    if (signed.path === '/expired') return textAnswer(403, '<Error><Code>ExpiredToken</Code></Error>');
    const answer = this.#route({ ...request, path: signed.path });
    answer.headers['Docker-Content-Digest'] = undefined;
    return answer;
  }

  #answer(request: RecordedRequest): Answer {
    const [, repository] = registryPath.exec(request.path) ?? [];
    const answer = this.#refusal(request, repository) ?? this.#route(request);
    Object.assign(answer.headers, { 'Docker-Distribution-Api-Version': 'registry/2.0', ...this.#options.headers });
    if (this.#options.digestHeader === false) answer.headers['Docker-Content-Digest'] = undefined;
    return answer;
  }

  #refusal(request: RecordedRequest, repository: string | undefined): Answer | undefined {
    const { token, basic } = this.#options;
    const { authorization } = request.headers;
    const instead = this.#options.instead?.(request);
    if (instead !== undefined) return instead;
    if (token !== undefined && !this.tokens.allows(authorization, repository)) {
      const challenge = this.tokens.challenge(`${this.origin}/token`, repository);
      return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': challenge });
    }
    if (basic !== undefined && authorization !== basicAuthorization(basic)) {
      return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="registry.test"' });
    }
    return undefined;
  }

  #route(request: RecordedRequest): Answer {
    if (request.path === '/v2/') return jsonAnswer({});
    if (request.method !== 'GET' && request.method !== 'HEAD') return errorAnswer(405, 'UNSUPPORTED');
    const [, repository = '', kind, reference = ''] = registryPath.exec(request.path) ?? [];
    if (kind === 'manifests') return this.#manifestAnswer(request, repository, reference);
    if (kind === 'blobs') return this.#blobAnswer(request, repository, reference);
    if (kind === 'tags' && reference === 'list') {
      const { tagPageSize: pageSize, linkStyle = 'relative' } = this.#options;
      return tagsAnswer(this.tags(repository), { repository, request, pageSize, linkStyle, origin: this.origin });
    }
    if (kind === 'referrers' && this.#options.referrers !== false) {
      const artifactType = request.query.get('artifactType') ?? undefined;
      return jsonAnswer(this.referrers(repository, reference, artifactType), {
        'Content-Type': ociIndex,
        'OCI-Filters-Applied': artifactType === undefined ? undefined : 'artifactType',
      });
    }
    return textAnswer(404, '404 page not found\n', { 'Content-Type': 'text/plain; charset=utf-8' });
  }

  #manifestAnswer(request: RecordedRequest, repository: string, reference: string): Answer {
    const accepted = (request.headers.accept ?? '').split(',').map((type) => (type.split(';')[0] ?? '').trim());
    const manifest = this.manifest(repository, reference, accepted);
    if (manifest === undefined) return errorAnswer(404, 'MANIFEST_UNKNOWN');
    const { digest } = manifest;
    const etag = `"${digest}"`;
    const bytes = request.headers['if-none-match'] === etag ? Buffer.alloc(0) : manifest.bytes;
    return textAnswer(bytes.length === 0 ? 304 : 200, bytes, {
      'Content-Type': manifest.mediaType,
      'Docker-Content-Digest': digest,
      ETag: etag,
    });
  }

  #blobAnswer(request: RecordedRequest, repository: string, digest: string): Answer {
    const blob = this.blob(repository, digest);
    if (blob === undefined) return errorAnswer(404, 'BLOB_UNKNOWN');
    const answer = rangeAnswer(blob.source, request.headers.range);
    Object.assign(answer.headers, { 'Docker-Content-Digest': digest, 'Accept-Ranges': 'bytes', ETag: `"${digest}"` });
    return answer;
  }
}

/** Starts a registry on ports of the system's choice: `await using upstream = await startRegistry()`. */
export async function startRegistry(options: RegistryOptions = {}): Promise<ScriptedRegistry> {
  const registry = new ScriptedRegistry(options);
  await registry.resume();
  return registry;
}
