import { LRUCache } from 'lru-cache';
import type { Keeper } from '../front/keeper.ts';
import type { KeptAnswer } from '../front/kept-answer.ts';
import type { ReadRequest } from '../front/request-key.ts';
import type { HostedRules } from '../hosted/rules.ts';
import type { BlobBody } from '../mirror/body.ts';
import type { ReadyBlob } from '../mirror/ready-blobs.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { parseExtensionPath } from '../oci/extension-path.ts';
import { upTo } from '../oci/lru-bound.ts';
import { parsePushRequest } from '../oci/push-request.ts';
import { parseRequest } from '../oci/request.ts';
import { type Repository, repositoryOf } from '../upstream/repository.ts';
import { type Selection, selectUpstream } from '../upstream/selection.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import { blobReply } from './replies.ts';
import { selectionInput } from './selecting.ts';

/** A blob by its digest, written as the specification has it. */
const blobPath = /^(\/v2\/.+\/blobs\/)(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})(?:\?(.*))?$/;
/** Any digest: what a path means does not depend on it. */
const anyDigest = `sha256:${'0'.repeat(64)}`;

/** The names of the headers whose meaning for a blob is known here. */
const conditions: ReadonlySet<string> = new Set(['range', 'if-range', 'if-none-match']);

/** `upstreams` and `settings` are read for each request: they may be replaced while the mirror runs. */
export interface ReadyAnswersOptions {
  readonly upstreams: UpstreamTable;
  /** The object that `hosted` follows from: where it is another one, earlier results no longer count. */
  readonly settings: unknown;
  readonly blobs: { get(repository: Repository, digest: Digest): ReadyBlob | undefined };
  readonly keeper: Pick<Keeper, 'make'>;
  /** Whether every caller may read everything, now; read for each request. */
  readonly isOpen: () => boolean;
  /** Repositories that are not of upstreams; absent: there are none. */
  readonly hosted: Pick<HostedRules, 'isHosted'> | undefined;
  /** Whether manifests of a repository are checked for signatures, also where they are asked for as blobs. */
  readonly isSigned: (repository: Repository) => boolean;
  /** Whether an nginx in front sends stored blobs from their files; read for each answer. */
  readonly handsFilesOver: () => boolean;
}

interface Place {
  readonly repository: Repository;
  readonly selection: Selection;
}

/**
 * Decides requests for blobs that are stored, without the application and in the same way: it is left what needs to wait,
 * what may be an error, and what somebody else has a say in.
 */
export class ReadyAnswers {
  readonly #options: ReadyAnswersOptions;
  /** By all of a request that chooses the repository. */
  readonly #places = new LRUCache<string, Place | 'application'>(upTo(2_000));
  #table: UpstreamTable | undefined;
  #settings: unknown;

  constructor(options: ReadyAnswersOptions) {
    this.#options = options;
  }

  /** @returns `undefined` where the application has to decide */
  decide({ method, url, host, deciding }: ReadRequest): KeptAnswer | undefined {
    const { isOpen, blobs, isSigned, handsFilesOver } = this.#options;
    if (deciding === undefined || !isOpen() || handsFilesOver()) return undefined;
    const match = blobPath.exec(url);
    if (match === null) return undefined;
    for (const name in deciding) if (!conditions.has(name)) return undefined;
    const [, before = '', digest = '', query = ''] = match;
    const place = this.#place(before, { query, host });
    if (place === 'application' || isSigned(place.repository)) return undefined;
    const blob = blobs.get(place.repository, digest as Digest);
    return blob && this.#answer(blob, { method, path: `${before}${digest}`, deciding, ...place });
  }

  #answer(
    blob: ReadyBlob,
    asked: Pick<ReadRequest, 'method'> & Place & { readonly path: string; readonly deciding: Record<string, string> },
  ): KeptAnswer | undefined {
    const { method, path, deciding, selection } = asked;
    const { standing, bytes } = blob;
    let reply: ReturnType<typeof blobReply>;
    try {
      reply = blobReply(
        { ...blob, body: bodyOf(bytes) },
        {
          head: method === 'HEAD',
          range: deciding['range'],
          ifRange: deciding['if-range'],
          ifNoneMatch: deciding['if-none-match'],
          namespace: selection.namespace,
        },
      );
    } catch (error) {
      if (error instanceof RegistryError) return undefined;
      throw error;
    }
    const { content } = reply;
    // A file is read before its first headers go out: one that cannot be read is fetched again.
    if (content.kind === 'parts' || content.kind === 'body') return undefined;
    return this.#options.keeper.make({
      ...standing,
      file: standing.file,
      status: reply.status,
      headers: reply.headers,
      body: content.kind === 'bytes' ? content.bytes : undefined,
      about: {
        method,
        path,
        kind: 'blob',
        upstream: selection.upstream.name,
        repository: selection.repository,
        namedBy: selection.namedBy,
        outcome: blob.outcome,
        through: undefined,
      },
    });
  }

  #place(
    before: string,
    request: { readonly query: string; readonly host: string | undefined },
  ): Place | 'application' {
    const { upstreams, settings } = this.#options;
    if (this.#table !== upstreams || this.#settings !== settings) this.#places.clear();
    this.#table = upstreams;
    this.#settings = settings;
    const key = `${before} ${request.query} ${request.host ?? ''}`;
    const known = this.#places.get(key);
    if (known !== undefined) return known;
    const place = this.#find(`${before}${anyDigest}`, request);
    this.#places.set(key, place);
    return place;
  }

  /** Reads a path as the application does. */
  #find(path: string, { query, host }: { query: string; host: string | undefined }): Place | 'application' {
    const { upstreams, hosted } = this.#options;
    try {
      const request = parseRequest(path);
      if (request.kind !== 'blob' || parseExtensionPath(path) !== undefined) return 'application';
      if (parsePushRequest(path, query) !== undefined) return 'application';
      const input = selectionInput({ query }, { headers: { host }, name: request.name });
      const [ns] = input.nsValues;
      if (hosted?.isHosted(ns === undefined ? request.name : `${ns}/${request.name}`) === true) return 'application';
      const selection = selectUpstream(upstreams, input);
      return { selection, repository: repositoryOf(selection.upstream, selection.repository) };
    } catch (error) {
      if (error instanceof RegistryError) return 'application';
      throw error;
    }
  }
}

/** Never read: content in a file is left to the application. */
function bodyOf(bytes: Buffer | undefined): BlobBody {
  return {
    bytes,
    read: () => Promise.resolve(0),
    peek: () => undefined,
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
