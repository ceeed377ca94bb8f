import { readdir, rm, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { expect } from 'vitest';
import { runOnControl } from '../../src/cli/control-client.ts';
import { seededSource } from '../support/bytes.ts';
import type { Reply } from '../support/client.ts';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

/** An image of the registries, by its place. */
export interface Place {
  readonly repository: string;
  readonly tag: string;
}

/** A request for a part of an image. */
export interface Question extends Place {
  readonly kind: 'question';
  readonly of: 'tag' | 'manifest' | 'config' | 'layer';
  readonly by: 'hub' | 'ns' | 'quay';
  readonly method: 'GET' | 'HEAD';
  readonly range: string | undefined;
  /** Whether the client says that it has it. */
  readonly isKnown: boolean;
  readonly accept: string | undefined;
}

export type Operation =
  | Question
  | ({ readonly kind: 'push' | 'copy' | 'delete tag' | 'rm' | 'pin' | 'unpin' | 'alter' | 'lose' } & Place)
  | { readonly kind: 'wait'; readonly seconds: number }
  | { readonly kind: 'down' | 'up' | 'pause' | 'evict' | 'verify' }
  | { readonly kind: 'limit'; readonly remaining: number }
  | { readonly kind: 'configure'; readonly tagTtl: string; readonly deny: readonly string[] };

/** Moves the clock of durations forward, so that nothing has to be waited for. */
export class Durations implements Disposable {
  readonly #now = performance.now.bind(performance);
  #skippedMs = 0;

  constructor() {
    performance.now = () => this.#now() + this.#skippedMs;
  }

  skip(ms: number): void {
    this.#skippedMs += ms;
  }

  [Symbol.dispose](): void {
    performance.now = this.#now;
  }
}

/** How long the parts of an image that has not come whole are held against eviction, in milliseconds. */
const quietMs = 60_000;

/** Headers that may differ: what is said of the connection, and when. */
const passing = new Set(['date', 'connection', 'keep-alive', 'transfer-encoding']);

/** A mirror with registries of its own, which hold the same as those of its twin. */
export class Twin implements AsyncDisposable {
  readonly #hub: ScriptedRegistry;
  readonly #quay: ScriptedRegistry;
  readonly #site: TestSite;
  readonly #clock: { nowMs: number };
  readonly #limit: Record<string, string>;
  readonly #agent = new Agent({ keepAlive: true });
  readonly #durations: Durations;
  readonly #owned: AsyncDisposableStack;
  readonly #images = new Map<string, AddedImage>();
  #pushes = 0;
  #isDown = false;

  private constructor(
    parts: {
      hub: ScriptedRegistry;
      quay: ScriptedRegistry;
      site: TestSite;
      clock: { nowMs: number };
      limit: Record<string, string>;
      durations: Durations;
    },
    owned: AsyncDisposableStack,
  ) {
    this.#hub = parts.hub;
    this.#quay = parts.quay;
    this.#site = parts.site;
    this.#clock = parts.clock;
    this.#limit = parts.limit;
    this.#durations = parts.durations;
    this.#owned = owned;
  }

  static async start(keepsAnswers: boolean, durations: Durations): Promise<Twin> {
    await using owned = new AsyncDisposableStack();
    const clock = { nowMs: Date.parse('2026-11-30T12:00:00Z') };
    const limit: Record<string, string> = {};
    const hub = owned.use(await startRegistry({ headers: limit }));
    const quay = owned.use(await startRegistry());
    const upstreams = { 'docker.io': hub, 'quay.io': quay };
    const now = (): number => clock.nowMs;
    const site = owned.use(await startTestSite({ upstreams, keepsAnswers, keepsLog: false, now }));
    return new Twin({ hub, quay, site, clock, limit, durations }, owned.move());
  }

  /** Does it, and gives what has to be the same with the twin. */
  async do(operation: Operation): Promise<unknown> {
    switch (operation.kind) {
      case 'question':
        return await this.#ask(operation);
      case 'push':
        this.#push(operation);
        return undefined;
      case 'copy':
        // The image that was pushed last, under another name: what both have has two holders.
        this.#push(operation, Math.max(1, this.#pushes));
        return undefined;
      case 'delete tag':
        return this.#hub.removeTag(`library/${operation.repository}`, operation.tag);
      case 'rm':
        return await this.#control('remove', { images: [nameOf(operation)], force: true, dryRun: false });
      case 'pin':
      case 'unpin':
        return await this.#control(operation.kind, { images: [nameOf(operation)] });
      case 'verify':
        await this.#control('verify', { images: [], repair: true });
        return undefined;
      case 'alter':
      case 'lose':
        return await this.#damage(operation, operation.kind);
      case 'wait':
        this.#clock.nowMs += operation.seconds * 1000;
        return undefined;
      case 'down':
      case 'up':
        return await this.#be(operation.kind);
      case 'pause':
        this.#hub.fault(undefined, { kind: 'status', status: 429, headers: { 'Retry-After': '20' } }, { times: 1 });
        return undefined;
      case 'limit':
        this.#limit['RateLimit-Remaining'] = `${operation.remaining};w=600`;
        return undefined;
      case 'evict':
        return await this.#evict();
      case 'configure':
        return await this.#configure({ cache: { tagTtl: operation.tagTtl } }, operation.deny);
      default:
        return operation satisfies never;
    }
  }

  /** How many requests were answered without a decision. */
  async keptAnswers(): Promise<number> {
    return await this.#metric('kept_answers_total');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned.disposeAsync();
  }

  async #ask({ of, by, method, range, isKnown, accept, ...place }: Question): Promise<unknown> {
    const image = this.#images.get(nameOf(place)) ?? this.#push(place);
    const [layer = image.config] = image.layers;
    const digest = { tag: image.digest, manifest: image.digest, config: image.config.digest, layer: layer.digest }[of];
    const path =
      of === 'tag' ? `manifests/${place.tag}` : of === 'manifest' ? `manifests/${digest}` : `blobs/${digest}`;
    const prefix = by === 'quay' ? 'quay.io/' : '';
    const headers = {
      ...(range !== undefined && { range }),
      ...(isKnown && { 'if-none-match': `"${digest}"` }),
      ...(accept !== undefined && { accept }),
    };
    const target = `/v2/${prefix}library/${place.repository}/${path}${by === 'ns' ? '?ns=docker.io' : ''}`;
    const reply = await this.#site.get(target, { method, headers, agent: this.#agent });
    // The rest of a blob that is fetched after the answer is complete before the next request.
    if (reply.headers['cache-status'] !== 'millpond; hit') {
      await expect.poll(() => this.#metric('fills_running'), { interval: 2 }).toBe(0);
    }
    return comparable(reply);
  }

  /** Both registries get it; the layer is one that is kept in a file, and the tag moves. */
  #push(place: Place, number = this.#pushes + 1): AddedImage {
    this.#pushes = number;
    const repository = `library/${place.repository}`;
    const layers = [seededSource(100_000 + this.#pushes, this.#pushes)];
    const config = JSON.stringify({ os: 'linux', push: this.#pushes });
    const image = this.#hub.addImage(repository, place.tag, { layers, config });
    // What one upstream has shown is not the other one's to give.
    if (this.#pushes % 2 === 0) this.#quay.addImage(repository, place.tag, { layers, config });
    this.#images.set(nameOf(place), image);
    return image;
  }

  async #be(state: 'down' | 'up'): Promise<void> {
    this.#hub.clearFaults();
    if (state === 'down' && !this.#isDown) await this.#hub.suspend();
    if (state === 'up' && this.#isDown) await this.#hub.resume();
    this.#isDown = state === 'down';
  }

  async #control(name: string, parameters: object): Promise<unknown[]> {
    const input = { [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }) };
    const signal = new AbortController().signal;
    const events: unknown[] = [];
    const given = { signal, input } as Parameters<typeof runOnControl>[3];
    for await (const event of runOnControl(this.#site.cacheDir, name, parameters, given)) events.push(event);
    return events;
  }

  /** Changes or removes the file of a layer behind the mirror's back. */
  async #damage(place: Place, how: 'alter' | 'lose'): Promise<void> {
    const digest = this.#images.get(nameOf(place))?.layers[0]?.digest;
    if (digest === undefined) return;
    const folder = join(this.#site.cacheDir, 'blobs');
    const names = await readdir(folder, { recursive: true });
    const found = names.find((name) => name.endsWith(digest.slice('sha256:'.length)));
    if (found === undefined) return;
    if (how === 'lose') await rm(join(folder, found));
    else await writeFile(join(folder, found), Buffer.alloc(100_000, 'x'));
  }

  /** Everything goes that is not pinned. */
  async #evict(): Promise<void> {
    await this.#configure({ cache: { maxSize: '1B' } }, []);
    const unpinned = async (): Promise<number> => {
      this.#durations.skip(quietMs + 1);
      return (await this.#metric('cache_bytes')) - (await this.#metric('cache_pinned_bytes'));
    };
    await expect.poll(unpinned).toBe(0);
    await this.#configure({}, []);
  }

  async #configure(config: object, deny: readonly string[]): Promise<void> {
    const upstreams = {
      'docker.io': { urls: [this.#hub.origin], repositories: { deny } },
      'quay.io': { urls: [this.#quay.origin] },
    };
    await this.#site.reconfigure({ ...config, upstreams });
  }

  async #metric(name: string): Promise<number> {
    const { body } = await this.#site.get('/metrics');
    return Number(new RegExp(String.raw`^millpond_${name} (\S+)`, 'm').exec(body.toString())?.[1] ?? Number.NaN);
  }
}

function nameOf({ repository, tag }: Place): string {
  return `docker.io/library/${repository}:${tag}`;
}

/** The parts of an answer that have to be the same: all but the ports of the registries and the boundaries of parts. */
function comparable({ status, rawHeaders, sha256, complete, receivedBytes }: Reply): unknown {
  const headers: string[] = [];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const [name, value] = rawHeaders.slice(at, at + 2) as [string, string];
    const isPassing = passing.has(name.toLowerCase()) || (status >= 400 && name === 'Content-Length');
    if (!isPassing) headers.push(`${name}: ${value.replace(/boundary=.*/, '').replaceAll(/:\d{4,5}\b/g, '')}`);
  }
  if (status >= 400) return { status, headers, complete };
  const isInParts = headers.some((header) => header.includes('multipart/'));
  return { status, headers, complete, receivedBytes, sha256: isInParts ? undefined : sha256 };
}
