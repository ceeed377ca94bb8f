import { type Descriptor, readManifest } from '../../../oci/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf, finishDigest, hasherFor } from '../../../oci/digest.ts';
import { RegistryError } from '../../../oci/error.ts';
import { bareMediaType, manifestAccept } from '../../../oci/media-types.ts';
import { indexEntries, isImage, isPlatform } from '../../../oci/platform.ts';
import type { ManifestReference } from '../../../oci/request.ts';
import { createUpstream, type OwnedUpstream } from '../../../upstream/create-upstream.ts';
import { defaultTimeouts, type UpstreamOptions } from '../../../upstream/options.ts';
import { ExchangeRecorder, type RecordedExchange } from '../../../upstream/recorder.ts';
import { addressOf, adviceFor, realmOf } from './advice.ts';
import {
  behaviourFinding,
  bytesText,
  digestFinding,
  headFinding,
  limitsFinding,
  redirectsFinding,
  tlsFinding,
  typeFinding,
} from './findings.ts';
import { resolveNames } from './names.ts';
import { type Finding, failed, ok, type ProbeStep, type ProbeStepName, warning } from './steps.ts';

const amd64 = { os: 'linux', architecture: 'amd64', variant: undefined };
const getForTags = 'tags are resolved by GET, which some registries count as pulls';
/** Blobs up to this are read whole, to see that their digests hold. */
const maxReadBytes = 4 * 1024 * 1024;

/** The upstream and the image that are tried. */
export interface ProbeTarget {
  /** The upstream with the one URL that is tried. */
  readonly options: UpstreamOptions;
  /** The upstream's name of the repository, and the tag or digest; `undefined`: only the registry itself is tried. */
  readonly image: { readonly repository: string; readonly reference: ManifestReference } | undefined;
  readonly hasCredential: boolean;
  readonly signal: AbortSignal;
}

/**
 * Walks through all that a pull does at one URL of an upstream, with the client that the mirror uses, and says of each
 * step what came of it. Keeps nothing.
 * @throws the signal's reason
 */
export async function* probeUpstream(target: ProbeTarget): AsyncGenerator<ProbeStep> {
  const recorder = new ExchangeRecorder();
  // A failure is this step's alone: the next one is tried at once.
  using upstream = createUpstream({ ...target.options, recorder, probeMs: 0 });
  const probe = new Probe(target, { upstream, recorder });
  yield* probe.run();
}

class Probe {
  readonly #target: ProbeTarget;
  readonly #url: URL;
  readonly #upstream: OwnedUpstream;
  readonly #recorder: ExchangeRecorder;

  constructor(target: ProbeTarget, { upstream, recorder }: { upstream: OwnedUpstream; recorder: ExchangeRecorder }) {
    this.#target = target;
    this.#url = new URL(target.options.urls[0] ?? '');
    this.#upstream = upstream;
    this.#recorder = recorder;
  }

  async *run(): AsyncGenerator<ProbeStep> {
    const { options, image, signal } = this.#target;
    const timeoutMs = options.timeouts?.connectMs ?? defaultTimeouts.connectMs;
    const { proxy } = this.#upstream.status().endpoints[0]!;
    const names = await resolveNames(this.#url, { proxy, signal, timeoutMs });
    yield step('names', names);
    if (names.result === 'failed') return;
    const ping = await this.#try(() => this.#ping());
    if (this.#url.protocol === 'https:') yield step('tls', tlsFinding(ping.exchanges));
    yield step('ping', ping);
    if (this.#target.hasCredential) yield await this.#tried('credential', () => this.#credential());
    if (image === undefined || ping.exchanges.every(({ status }) => status === null)) return;
    yield* this.#pull(image);
    yield step('limits', limitsFinding(this.#recorder.exchanges));
    yield step('behaviour', behaviourFinding(this.#upstream.status().endpoints[0]!.traits));
  }

  async *#pull({ repository, reference }: NonNullable<ProbeTarget['image']>): AsyncGenerator<ProbeStep> {
    const { client } = this.#upstream;
    const { signal } = this.#target;
    const accept = manifestAccept;
    const named = reference.kind === 'tag' ? reference.tag : reference.digest;
    let head: Digest | undefined;
    const headed = await this.#try(async () => {
      const { digest, contentType, size } = await client.headManifest(repository, named, { accept, signal });
      head = digest;
      if (contentType === '') return warning('HEAD is not answered: tags are resolved by GET');
      return ok(`${contentType}, ${size === undefined ? 'no length' : bytesText(size)}, ${digest ?? 'no digest'}`);
    });
    const asked = this.#tokenExchanges(headed.exchanges);
    if (asked.length > 0) yield step('token', { ...this.#tokenFinding(asked), exchanges: asked });
    let manifest:
      | { readonly bytes: Buffer; readonly contentType: string; readonly digest: Digest | undefined }
      | undefined;
    const got = await this.#try(async () => {
      manifest = await client.getManifest(repository, named, { accept, signal });
      return ok(`${bytesText(manifest.bytes.length)} of ${manifest.contentType}`);
    });
    const exchanges = headed.exchanges.filter((exchange) => !asked.includes(exchange));
    yield step('head', { ...headFinding(headed, { isHere: manifest !== undefined, instead: getForTags }), exchanges });
    yield step('get', got);
    if (manifest === undefined) return;
    const expected = reference.kind === 'digest' ? reference.digest : undefined;
    const digest = digestOf(manifest.bytes, expected && digestAlgorithm(expected));
    yield step('digest', digestFinding(digest, { expected: expected ?? manifest.digest, head }));
    yield step('type', typeFinding(manifest));
    yield await this.#tried('by digest', async () => {
      const { bytes } = await client.getManifest(repository, digest, { accept, signal });
      return digestOf(bytes, digestAlgorithm(digest)) === digest
        ? ok('the manifest is served by its digest, too')
        : failed('another manifest is served by its digest');
    });
    yield* this.#blobs(repository, { bytes: manifest.bytes, contentType: manifest.contentType });
    yield* this.#lists(repository, digest);
  }

  async *#blobs(repository: string, manifest: { bytes: Buffer; contentType: string }): AsyncGenerator<ProbeStep> {
    const { client } = this.#upstream;
    const { signal } = this.#target;
    let blobs: readonly Descriptor[] = [];
    const found = await this.#try(async () => {
      blobs = await this.#blobsOf(repository, manifest);
      return ok('');
    });
    if (found.result === 'failed') yield step('blob', found);
    const bySize = blobs.filter(({ size }) => size > 0).toSorted((one, other) => one.size - other.size);
    const [smallest] = bySize;
    const largest = bySize.at(-1);
    if (smallest === undefined || largest === undefined) return;
    const headed = await this.#try(async () => {
      const { size } = await client.headBlob(repository, smallest.digest, { signal });
      if (size === smallest.size) return ok(`${bytesText(size)}, as the manifest says`);
      return warning(
        `${size === undefined ? 'no length' : bytesText(size)}, and the manifest says ${bytesText(smallest.size)}`,
      );
    });
    const isHere = headed.result !== 'failed';
    const worth = headFinding(headed, { isHere, instead: 'a GET of one byte takes its place' });
    yield step('blob head', { ...worth, exchanges: headed.exchanges });
    const before = this.#recorder.exchanges.length;
    yield await this.#tried('blob', () => this.#readBlob(repository, smallest));
    yield step('redirects', redirectsFinding(this.#recorder.exchanges.slice(before), this.#url));
    yield await this.#tried('ranges', () => this.#readRange(repository, largest));
  }

  async *#lists(repository: string, digest: Digest): AsyncGenerator<ProbeStep> {
    const { client } = this.#upstream;
    const { signal } = this.#target;
    yield await this.#tried('tags', async () => {
      const { bytes, nextQuery } = await client.listTags(repository, 'n=1', { signal });
      const { tags } = JSON.parse(bytes.toString('utf8')) as { tags?: unknown };
      const count = Array.isArray(tags) ? tags.length : 0;
      return ok(
        `${count} on the first page of one, ${nextQuery === undefined ? 'and no next page' : 'with a next page'}`,
      );
    });
    yield await this.#tried('referrers', async () => {
      const listing = await client.listReferrers(repository, digest, '', { signal });
      if (listing === undefined) return ok('no referrers API: the fallback tag is read in its place');
      return ok(`${indexEntries(listing.bytes, listing.contentType).length} listed`);
    });
  }

  async #ping(): Promise<Finding> {
    const { status, contentType = 'no type' } = await this.#upstream.ping({ signal: this.#target.signal });
    const challenge = this.#recorder.exchanges.at(-1)?.headers['www-authenticate'];
    if (status === 401 && challenge !== undefined) return ok(`/v2/ demands ${challenge}`);
    if (bareMediaType(contentType) === 'text/html') {
      const advice = 'a proxy or a login page may answer in place of the registry, or the registry is below a path';
      return warning(`/v2/ is answered with ${status} and a web page`, advice);
    }
    if (status === 200) return ok('/v2/ demands nothing');
    const advice = `a registry below a path needs that in upstreams.${this.#target.options.name}.urls`;
    return warning(`/v2/ is answered with ${status}${status === 401 ? ' and no challenge' : ''}`, advice);
  }

  /** Config and layers of the image; of an index, of that for linux/amd64 or the first. */
  async #blobsOf(
    repository: string,
    { bytes, contentType }: { bytes: Buffer; contentType: string },
  ): Promise<readonly Descriptor[]> {
    const entries = indexEntries(bytes, contentType);
    const images = entries.filter(isImage);
    const child = images.find(({ platform }) => isPlatform(platform!, amd64)) ?? images[0] ?? entries[0];
    if (child === undefined) return readManifest(bytes, contentType).blobs;
    const { signal } = this.#target;
    const manifest = await this.#upstream.client.getManifest(repository, child.digest, {
      accept: manifestAccept,
      signal,
    });
    return readManifest(manifest.bytes, manifest.contentType).blobs;
  }

  async #readBlob(repository: string, { digest, size }: Descriptor): Promise<Finding> {
    const { signal } = this.#target;
    const blob = await this.#upstream.client.endpoints[0]!.openBlob(repository, digest, { signal });
    if (size > maxReadBytes) {
      blob.body.destroy();
      return ok(`${bytesText(size)} begin to come`);
    }
    const hash = hasherFor(digest);
    let length = 0;
    for await (const chunk of blob.body) {
      hash.update(chunk);
      length += chunk.length;
      if (length > size) break;
    }
    if (length === size && finishDigest(digestAlgorithm(digest), hash) === digest) {
      return ok(`${bytesText(size)}, and the digest is right`);
    }
    return failed(`${bytesText(length)}${length > size ? ' and more' : ''}, and the digest is wrong`);
  }

  async #readRange(repository: string, { digest, size }: Descriptor): Promise<Finding> {
    if (size < 2) return { result: 'skipped', text: 'the image has no blob that could be read in parts' };
    const { signal } = this.#target;
    const end = Math.min(size, 1025);
    const blob = await this.#upstream.client.endpoints[0]!.openBlob(repository, digest, { offset: 1, end, signal });
    blob.body.destroy();
    if (blob.start === 1) return ok('a part of a blob can be asked for: a cut transfer continues where it stopped');
    return warning('Range is ignored: a cut transfer begins again, and connectionsPerBlob has no effect');
  }

  /** Whether each credential can be had; whether the registry accepts it is found out by what follows. */
  async #credential(): Promise<Finding> {
    const tried = await this.#upstream.tryCredentials({ signal: this.#target.signal });
    const text = tried
      .map(({ name, isThere, failure }) =>
        failure === undefined ? `${name}${isThere ? '' : ': nothing, anonymous'}` : failure,
      )
      .join('; ');
    if (tried.some(({ failure }) => failure !== undefined)) return failed(text);
    return tried.every(({ isThere }) => isThere) ? ok(text) : warning(text);
  }

  /** Those that went to a token service. */
  #tokenExchanges(exchanges: readonly RecordedExchange[]): RecordedExchange[] {
    const realms = new Set(this.#recorder.exchanges.map((one) => addressOf(realmOf(one)?.href ?? '')));
    return exchanges.filter(({ url }) => realms.has(addressOf(url)));
  }

  #tokenFinding(asked: readonly RecordedExchange[]): Finding {
    const last = asked.at(-1)!;
    const how = last.authorization === 'none' && last.method !== 'POST' ? 'anonymously' : 'with the credentials';
    const text = `${addressOf(last.url)} answers ${last.status ?? last.error} ${how}`;
    if (last.status === 200) return ok(text);
    const { options, hasCredential } = this.#target;
    const context = { upstream: options.name, url: new URL(last.url), hasCredential, exchanges: asked };
    return failed(text, adviceFor(undefined, context));
  }

  async #tried(name: ProbeStepName, work: () => Promise<Finding>): Promise<ProbeStep> {
    return step(name, await this.#try(work));
  }

  /** Does something; what it throws is what came of it. */
  async #try(work: () => Promise<Finding>): Promise<Tried> {
    const { options, hasCredential, signal } = this.#target;
    const before = this.#recorder.exchanges.length;
    const exchanges = () => this.#recorder.exchanges.slice(before);
    try {
      return { ...(await work()), exchanges: exchanges() };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RegistryError || error instanceof SyntaxError)) throw error;
      const context = { upstream: options.name, url: this.#url, hasCredential, exchanges: exchanges() };
      return { ...failed(error.message, adviceFor(error, context)), exchanges: exchanges() };
    }
  }
}

type Tried = Finding & { readonly exchanges: readonly RecordedExchange[] };

function step(name: ProbeStepName, found: Finding & { readonly exchanges?: readonly RecordedExchange[] }): ProbeStep {
  const { result, text, advice = null, exchanges = [] } = found;
  return { name, result, text, advice, exchanges };
}
