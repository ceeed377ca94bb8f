import type { FillProgress } from '../mirror/fill/fills.ts';
import { isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { isTag, parseReference } from '../oci/reference.ts';
import { noInput, type OperationContext } from '../operations/protocol/operation.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import { namedRepository } from '../upstream/repository.ts';
import type { UpstreamTable } from '../upstream/table.ts';
import type { Exchange } from './exchange.ts';
import type { ExtensionEndpoint, ExtensionRequest, NamedRepository } from './extension-request.ts';
import type { OperationEnd } from './operations.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import type { Rights } from './rights.ts';
import { writePaced } from './write-paced.ts';

/** Most operations at a time that callers have begun: each keeps a connection. */
const maxOperations = 8;
/** Most images of one request. */
const maxReferences = 100;

export interface AdministrationRoutesOptions {
  readonly operations: Pick<Operations, 'fetch' | 'remove' | 'pin' | 'unpin' | 'verify'>;
  readonly fills: () => readonly FillProgress[];
  /** `null`: one process alone. */
  readonly replicas: () => object | null;
  /** Read for each request. */
  readonly upstreams: UpstreamTable;
  /** Whether callers are authenticated, and administration has no listener of its own; read for each request. */
  readonly isOffered: () => boolean;
  /** Receives what a caller has asked for. */
  readonly onAsked: (fields: Readonly<Record<string, unknown>>) => void;
  /** Aborted when operations have to end. */
  readonly ending: AbortSignal;
}

/** An operation on images of one repository. */
interface ImageOperation {
  readonly module: 'fetch' | 'purge' | 'pin' | 'unpin' | 'verify';
  readonly run: (
    operations: AdministrationRoutesOptions['operations'],
    asked: { readonly images: readonly string[]; readonly parameters: URLSearchParams },
    context: OperationContext,
  ) => AsyncIterable<object>;
}

const imageOperations: readonly ImageOperation[] = [
  {
    module: 'fetch',
    run: (operations, { images, parameters }, context) => {
      const choice = { platforms: parameters.getAll('platform'), referrers: parameters.get('referrers') !== 'false' };
      return operations.fetch({ images: images.map((image) => ({ image })), ...choice }, context);
    },
  },
  {
    module: 'purge',
    run: (operations, { images, parameters }, context) =>
      operations.remove({ images, force: isSet(parameters, 'force'), dryRun: isSet(parameters, 'dryRun') }, context),
  },
  { module: 'pin', run: (operations, { images }, context) => operations.pin({ images }, context) },
  { module: 'unpin', run: (operations, { images }, context) => operations.unpin({ images }, context) },
  {
    module: 'verify',
    run: (operations, { images, parameters }, context) =>
      operations.verify({ images, repair: isSet(parameters, 'repair') }, context),
  },
];

/** The endpoints for administrators (docs/extensions/_millpond.md, `administration`). */
export function administrationEndpoints(options: AdministrationRoutesOptions, rights: Rights): ExtensionEndpoint[] {
  const common = { extension: '_millpond', component: 'administration' } as const;
  const isOfferedTo = (exchange: Exchange, repository: NamedRepository | undefined): boolean => {
    const { caller, grants } = exchange;
    if (caller === undefined || caller.kind === 'anonymous' || repository?.isHosted === true) return false;
    // A token is for repositories: what concerns all of them needs the credentials themselves.
    if (repository === undefined && grants !== undefined) return false;
    return rights.may(exchange, 'administer', repository?.key);
  };
  const running = { count: 0 };
  const onImages = imageOperations.map((operation) => ({
    ...common,
    module: operation.module,
    listed: `administration/${operation.module}`,
    levels: ['repository'] as const,
    // Each has the same effect when it is asked for twice. Unlike POST, no page of another origin can have a browser send it.
    methods: ['PUT'],
    action: 'administer' as const,
    isOfferedTo,
    answer: (request: ExtensionRequest) => run(request, { operation, options, running }),
  }));
  const reading = (module: string, read: () => object): ExtensionEndpoint => ({
    ...common,
    module,
    listed: `administration/${module}`,
    levels: ['registry'],
    methods: ['GET', 'HEAD'],
    isOfferedTo,
    async answer({ ctx, exchange, sender }) {
      const contentType = `application/vnd.millpond.${module}.v1+json`;
      const conditions = { ...conditionsOf(ctx, exchange), contentType, headers: ['Cache-Control', 'no-store'] };
      await sender.send(ctx.res, jsonReply(read(), conditions), exchange);
    },
  });
  return [
    ...onImages,
    reading('downloads', () => ({ downloads: options.fills().map(shownFill) })),
    reading('replicas', () => ({ replicas: options.replicas() })),
  ];
}

function shownFill({ digest, writtenBytes, sizeBytes, sources, readers }: FillProgress): object {
  return { digest, writtenBytes, sizeBytes: sizeBytes ?? null, sources, readers };
}

/** Answers with a line of JSON for each event of an operation while it runs, and one for its end. */
async function run(
  request: ExtensionRequest,
  {
    operation,
    options,
    running,
  }: {
    readonly operation: ImageOperation;
    readonly options: AdministrationRoutesOptions;
    readonly running: { count: number };
  },
): Promise<void> {
  const { ctx, exchange, parameters, repository } = request;
  if (repository === undefined) throw new Error('the endpoint is one of repositories');
  const images = imagesOf(repository, { parameters, upstreams: options.upstreams });
  if (running.count >= maxOperations) {
    throw new RegistryError('overloaded', 'as many operations of administrators run as may', {
      headers: { 'Retry-After': '30' },
    });
  }
  running.count += 1;
  const { caller } = exchange;
  options.onAsked({ operation: operation.module, caller: caller?.name, address: caller?.address, images });
  const { res } = ctx;
  const stop = new AbortController();
  const leave = (): void => stop.abort(exchange.gone.reason ?? options.ending.reason);
  exchange.gone.addEventListener('abort', leave, { once: true });
  options.ending.addEventListener('abort', leave, { once: true });
  try {
    if (options.ending.aborted) leave();
    res.writeHead(200, {
      'Content-Type': 'application/vnd.millpond.operation.v1+ndjson',
      'Cache-Control': 'no-store',
      'Docker-Distribution-Api-Version': 'registry/2.0',
    });
    res.flushHeaders();
    const context = { signal: stop.signal, input: noInput() };
    const events = operation.run(options.operations, { images, parameters }, context);
    for await (const line of linesOf(events, request)) await writePaced(res, line);
    res.end();
  } finally {
    running.count -= 1;
    exchange.gone.removeEventListener('abort', leave);
    options.ending.removeEventListener('abort', leave);
  }
}

/** Never throws. */
async function* linesOf(events: AsyncIterable<object>, { mayRead }: ExtensionRequest): AsyncGenerator<string> {
  let end: OperationEnd = { end: 'done' };
  try {
    for await (const event of events) yield `${JSON.stringify({ event: readable(event, mayRead) })}\n`;
  } catch (error) {
    end = { end: 'failed', error: error instanceof Error ? error.message : String(error) };
  }
  yield `${JSON.stringify(end)}\n`;
}

/** An event without the names of repositories that the caller may not know: they may share a damaged blob. */
function readable(event: object, mayRead: (name: string) => boolean): object {
  if (!('repositories' in event) || !Array.isArray(event.repositories)) return event;
  return { ...event, repositories: (event.repositories as readonly string[]).filter(mayRead) };
}

/**
 * The full names of the images that a request chooses in its repository.
 * @throws RegistryError NAME_INVALID, MANIFEST_INVALID
 */
function imagesOf(
  { key }: NamedRepository,
  { parameters, upstreams }: { readonly parameters: URLSearchParams; readonly upstreams: UpstreamTable },
): string[] {
  const references = parameters.getAll('reference');
  if (references.length === 0 || references.length > maxReferences) {
    throw new RegistryError('bad-reference', `the parameter reference is needed, up to ${maxReferences} times`);
  }
  return references.map((reference) => {
    // A pattern could choose more than the caller may administer.
    if (!isTag(reference) && !isDigest(reference)) {
      throw new RegistryError('bad-reference', `"${reference.slice(0, 200)}" is neither a tag nor a digest`);
    }
    const image = `${key}${isDigest(reference) ? '@' : ':'}${reference}`;
    if (namedRepository(upstreams, parseReference(image)).key !== key) {
      throw new RegistryError('bad-name', `${image} is the name of an image of another repository`);
    }
    return image;
  });
}

function isSet(parameters: URLSearchParams, name: string): boolean {
  return parameters.get(name) === 'true';
}
