import { setTimeout as delay } from 'node:timers/promises';
import type { Digest } from '../../../src/oci/digest.ts';
import { get, type Reply } from '../../support/client.ts';
import type { AddedImage, AddedManifest } from '../../support/contents.ts';
import type { ScriptedRegistry } from '../../support/registry.ts';
import type { Random } from './random.ts';

const KB = 1000;
const MB = 1000 * KB;
export const repositories = ['library/one', 'team/two'];
const tags = ['latest', 'stable', 'v1'];
const clientCount = 6;
const moveEveryMs = 120;

/** The tag that is an index over two images, in each repository. */
const indexTag = 'stable';

/** A tag, and every manifest that it has ever stood for, the newest last. */
export interface MovingTag {
  readonly repository: string;
  readonly tag: string;
  readonly history: AddedManifest[];
}

/** Images at an upstream whose tags keep moving to new ones, and clients that want them. */
export class Workload {
  readonly registry: ScriptedRegistry;
  readonly tags: readonly MovingTag[];
  /** Every image there has been, by the digest of its manifest. */
  readonly images = new Map<string, AddedImage>();
  /** The images of each index. */
  readonly children = new Map<string, readonly AddedImage[]>();
  /** What clients have got that they must not get, in sentences. */
  readonly violations: string[] = [];
  /** Bodies that came whole and right. */
  rightBodies = 0;
  /** Bodies that were cut, and connections that were lost. */
  lostAnswers = 0;
  readonly #random: Random;
  #serial = 0;

  constructor(registry: ScriptedRegistry, random: Random) {
    this.registry = registry;
    this.#random = random;
    this.tags = repositories.flatMap((repository) => tags.map((tag) => ({ repository, tag, history: [] })));
    for (const tag of this.tags) this.move(tag);
  }

  /** Points a tag at a new image, or back at the one before. */
  move(moving: MovingTag): void {
    const { repository, tag, history } = moving;
    const before = history.at(-2);
    if (before !== undefined && this.#random.next() < 0.15) {
      this.registry.tag(repository, tag, before.digest);
      history.push(before);
      return;
    }
    if (tag !== indexTag) {
      history.push(this.#addImage(repository, tag));
      return;
    }
    const images = [this.#addImage(repository, undefined), this.#addImage(repository, undefined)];
    const entries = images.map((manifest, index) => ({
      manifest,
      platform: { os: 'linux', architecture: index === 0 ? 'amd64' : 'arm64' },
    }));
    const index = this.registry.addIndex(repository, tag, entries);
    this.children.set(index.digest, images);
    history.push(index);
  }

  /** Lets clients pull and tags move until the signal; what is lost afterwards is no fault of the mirror. */
  async run(origin: string, signal: AbortSignal): Promise<void> {
    const clients = Array.from({ length: clientCount }, () => this.#client(origin, signal));
    await Promise.all([...clients, this.#mover(signal)]);
  }

  /** Asks the mirror, and notes a wrong body; undefined where no answer came. */
  async ask(url: string, options: { headers?: Record<string, string>; method?: string } = {}) {
    try {
      return await get(url, { ...options, keepBody: url.includes('/manifests/') || options.headers !== undefined });
    } catch {
      return undefined;
    }
  }

  async #mover(signal: AbortSignal): Promise<void> {
    while (await pause(moveEveryMs, signal)) this.move(this.#random.pick(this.tags));
  }

  async #client(origin: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const moving = this.#random.pick(this.tags);
      const kind = this.#random.next();
      if (kind < 0.55) await this.#pull(origin, moving, signal);
      else if (kind < 0.85) await this.#range(origin, moving, signal);
      else await this.#head(origin, moving, signal);
    }
  }

  async #pull(origin: string, moving: MovingTag, signal: AbortSignal): Promise<void> {
    const { repository, tag, history } = moving;
    const reply = await this.#expectWhole(`${origin}/v2/${repository}/manifests/${tag}`, { signal });
    if (reply === undefined) return;
    if (!history.some(({ digest }) => digest === reply.sha256)) {
      this.violations.push(`${repository}:${tag} was answered with ${reply.sha256}, which it never was`);
      return;
    }
    const children = this.children.get(reply.sha256);
    const image = children ? this.#random.pick(children) : this.images.get(reply.sha256);
    if (image === undefined) return;
    if (children) {
      await this.#expectWhole(`${origin}/v2/${repository}/manifests/${image.digest}`, { digest: image.digest, signal });
    }
    const blobs = [image.config, ...image.layers].map((blob) =>
      this.#expectWhole(`${origin}/v2/${repository}/blobs/${blob.digest}`, { digest: blob.digest, signal }),
    );
    await Promise.all(blobs);
  }

  async #range(origin: string, { repository, history }: MovingTag, signal: AbortSignal): Promise<void> {
    const newest = history.at(-1);
    const image = newest && this.images.get(newest.digest);
    if (image === undefined) return;
    const { digest, size, source } = this.#random.pick(image.layers);
    const start = this.#random.between(0, size);
    const end = Math.min(size, start + this.#random.between(1, 2 * MB));
    const headers = { range: `bytes=${start}-${end - 1}` };
    const url = `${origin}/v2/${repository}/blobs/${digest}`;
    const reply = await this.ask(url, { headers });
    if (!this.#isWhole(url, reply, signal)) return;
    const wanted = Buffer.concat([...source.read(start, end)]);
    if (reply.status === 206 && reply.body.equals(wanted)) this.rightBodies += 1;
    else this.violations.push(`${url} ${headers.range} gave ${reply.status} with wrong bytes`);
  }

  async #head(origin: string, { repository, tag, history }: MovingTag, signal: AbortSignal): Promise<void> {
    const url = `${origin}/v2/${repository}/manifests/${tag}`;
    const reply = await this.ask(url, { method: 'HEAD' });
    if (reply === undefined || (signal.aborted && reply.status !== 200)) return;
    const digest = reply.headers['docker-content-digest'];
    if (reply.status === 200 && history.some((manifest) => manifest.digest === digest)) return;
    this.violations.push(`HEAD ${url} gave ${reply.status} with ${String(digest)}`);
  }

  async #expectWhole(
    url: string,
    { digest, signal }: { digest?: Digest; signal: AbortSignal },
  ): Promise<Reply | undefined> {
    const reply = await this.ask(url);
    if (!this.#isWhole(url, reply, signal)) return undefined;
    if (reply.status !== 200 || (digest ?? reply.headers['docker-content-digest']) !== reply.sha256) {
      this.violations.push(`${url} gave ${reply.status} and ${reply.sha256}`);
      return undefined;
    }
    this.rightBodies += 1;
    return reply;
  }

  /** Whether all of an answer came; one that was lost while the mirror was alive is noted. */
  #isWhole(url: string, reply: Reply | undefined, signal: AbortSignal): reply is Reply {
    if (reply?.complete === true) return true;
    this.lostAnswers += 1;
    if (!signal.aborted) this.violations.push(`${url} was cut after ${reply?.receivedBytes ?? 0} bytes`);
    return false;
  }

  #addImage(repository: string, tag: string | undefined): AddedImage {
    const random = this.#random;
    const serial = (this.#serial += 1);
    const sizes = [random.between(10 * KB, 200 * KB), random.between(500 * KB, 3 * MB)];
    // One in a while is large enough to be fetched in parts.
    if (random.next() < 0.15) sizes.push(random.between(17 * MB, 26 * MB));
    const layers = sizes.map((size, index) => ({ size, seed: `${serial} ${index}` }));
    const config = JSON.stringify({ os: 'linux', architecture: 'amd64', comment: serial });
    const image = this.registry.addImage(repository, tag, { layers, config });
    this.images.set(image.digest, image);
    return image;
  }
}

/** Settles when a registry has sent so many bytes since it has forgotten its requests, or at the signal. */
export async function untilSent(
  registry: ScriptedRegistry,
  { bytes, signal }: { bytes: number; signal: AbortSignal },
): Promise<void> {
  const sent = () => registry.requests.reduce((sum, request) => sum + request.bytesSent, 0);
  while (sent() < bytes && !signal.aborted) await delay(2);
}

/** False when the signal came first. */
async function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return await delay(ms, undefined, { signal }).then(
    () => true,
    () => false,
  );
}
