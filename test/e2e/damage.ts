import { open, readdir, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { blobFile } from '../mirror/support.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { Random } from './kill/random.ts';

/** What can happen to a file behind the mirror's back. 'rots' leaves its time as it was, as a bad disk does. */
export const damages = ['flipped', 'rots', 'truncated', 'deleted', 'replaced', 'exchanged'] as const;
export type Damage = (typeof damages)[number];

export interface DamageOptions {
  /** How many files are damaged, each another one. */
  readonly count: number;
  readonly seed: number;
  readonly directory: string;
}

export interface DamageReport {
  /** What was not as it has to be; empty: all is well. */
  readonly violations: string[];
  readonly damaged: Readonly<Record<Damage, number>>;
  /** Answers that were whole and right, and ended, under load. */
  readonly rightBodies: number;
  /** Whole bodies with rotten bytes, from before the file was read again. */
  readonly rottenBodies: number;
  /** Found altered, by a reader or by the scrub. */
  readonly found: number;
  readonly fetchedAgain: number;
  readonly quarantined: number;
  readonly rounds: number;
}

interface Stored {
  readonly digest: Digest;
  readonly path: string;
}

const repository = 'library/app';
const readers = 4;

/** Damages stored files at random while clients read all of them and the scrub goes on, then looks at what is left. */
export async function damageUnderLoad({ count, seed, directory }: DamageOptions): Promise<DamageReport> {
  await using upstream = await startRegistry();
  const stored = fill(upstream, count + 20);
  await using site = await startTestSite({
    upstreams: { 'docker.io': upstream },
    cacheDir: join(directory, 'cache'),
    config: { cache: { scrub: { every: '1ms', rate: '1GiB' }, memory: '256KiB', tagTtl: '1d' } },
  });
  for (const { path } of stored) await read(site, path);
  const run = new Run({ site, upstream, stored, random: new Random(seed), directory });
  const stop = new AbortController();
  const load = Array.from({ length: readers }, (_, index) => run.reads(new Random(seed + 1 + index), stop.signal));
  await run.damageSome(count);
  await run.untilRound();
  stop.abort();
  await Promise.all(load);
  return await run.report();
}

/** Images of small and larger layers. */
function fill(upstream: ScriptedRegistry, blobs: number): Stored[] {
  const stored: Stored[] = [];
  for (let image = 0; stored.length < blobs; image += 1) {
    const sizes = [5_000, 70_000, 300_000, ...(image % 8 === 0 ? [3_000_000] : [])];
    const layers = sizes.map((size, layer) => ({ size, seed: `damage ${image} ${layer}` }));
    const added = upstream.addImage(repository, `v${image}`, { layers });
    stored.push({ digest: added.digest, path: `/v2/${repository}/manifests/${added.digest}` });
    for (const { digest } of [added.config, ...added.layers]) {
      stored.push({ digest, path: `/v2/${repository}/blobs/${digest}` });
    }
  }
  return stored;
}

class Run {
  readonly #violations: string[] = [];
  readonly #damaged = new Map<Digest, { damage: Damage; sinceMs: number }>();
  readonly #site: TestSite;
  readonly #upstream: ScriptedRegistry;
  readonly #stored: readonly Stored[];
  readonly #random: Random;
  readonly #directory: string;
  #rightBodies = 0;
  #rottenBodies = 0;

  constructor(parts: {
    site: TestSite;
    upstream: ScriptedRegistry;
    stored: readonly Stored[];
    random: Random;
    directory: string;
  }) {
    this.#site = parts.site;
    this.#upstream = parts.upstream;
    this.#stored = parts.stored;
    this.#random = parts.random;
    this.#directory = parts.directory;
  }

  /** Reads at random until it is stopped. */
  async reads(random: Random, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { digest, path } = random.pick(this.#stored);
      const startedMs = performance.now();
      const { status, complete, sha256 } = await read(this.#site, path);
      if (status !== 200) this.#violations.push(`${path} was answered ${status}`);
      else if (complete && sha256 === digest) this.#rightBodies += 1;
      else if (complete) this.#wrongBody(digest, startedMs);
    }
  }

  /** Only what was being read as it happened, or what bears no mark of it, may be wrong before it was read again. */
  #wrongBody(digest: Digest, startedMs: number): void {
    const { damage, sinceMs } = this.#damaged.get(digest) ?? {};
    if (damage === 'rots' || damage === 'exchanged') this.#rottenBodies += 1;
    else if (sinceMs === undefined || startedMs > sinceMs) this.#violations.push(`${digest}, ${damage}: a wrong body`);
  }

  async damageSome(count: number): Promise<void> {
    const left = [...this.#stored];
    for (let done = 0; done < count; done += 1) {
      const [{ digest }] = left.splice(this.#random.between(0, left.length), 1) as [Stored];
      const damage = damages[done % damages.length]!;
      // Who reads it while it happens may get the one or the other.
      this.#damaged.set(digest, { damage, sinceMs: Number.POSITIVE_INFINITY });
      await this.#damage(digest, damage);
      this.#damaged.set(digest, { damage, sinceMs: performance.now() });
      // Some reads between two of them.
      const enough = this.#rightBodies + this.#random.between(0, 10);
      while (this.#rightBodies < enough && this.#violations.length === 0) await delay(1);
    }
  }

  async #damage(digest: Digest, damage: Damage): Promise<void> {
    const file = join(this.#site.cacheDir, blobFile(digest));
    const { size, atime, mtime } = await stat(file);
    const another = join(this.#directory, 'another');
    switch (damage) {
      case 'flipped':
      case 'rots': {
        await using handle = await open(file, 'r+');
        const position = this.#random.between(0, size);
        const byte = Buffer.alloc(1);
        await handle.read(byte, 0, 1, position);
        byte[0]! ^= 1 << this.#random.between(0, 8);
        await handle.write(byte, 0, 1, position);
        if (damage === 'rots') await handle.utimes(atime, mtime);
        return;
      }
      case 'truncated':
        return await truncate(file, this.#random.between(0, size));
      case 'deleted':
        return await rm(file);
      case 'replaced':
      case 'exchanged':
        await writeFile(another, Buffer.alloc(size, `another ${digest}`));
        if (damage === 'exchanged') await utimes(another, atime, mtime);
        return await rename(another, file);
      default:
        damage satisfies never;
    }
  }

  /** Waits for a round of the scrub that has begun after all of this. */
  async untilRound(): Promise<void> {
    const nowMs = Date.now();
    while (!this.#rounds().some(({ started }) => Date.parse(String(started)) > nowMs)) await delay(20);
  }

  #rounds(): Readonly<Record<string, unknown>>[] {
    return this.#site.logLines.filter(({ msg }) => msg === 'scrub finished');
  }

  async report(): Promise<DamageReport> {
    const violations = this.#violations;
    for (const { path, digest } of this.#stored) {
      const { status, complete, sha256 } = await read(this.#site, path);
      if (status !== 200 || !complete || sha256 !== digest) violations.push(`${path} is wrong after the scrub`);
      const content = await readFile(join(this.#site.cacheDir, blobFile(digest))).catch(() => Buffer.alloc(0));
      if (digestOf(content) !== digest) violations.push(`the file of ${digest} is wrong after the scrub`);
    }
    const altered = new Set(
      this.#site.logLines.filter(({ msg }) => String(msg).includes('was altered')).map(({ digest }) => digest),
    );
    const damaged: Record<Damage, number> = {
      flipped: 0,
      rots: 0,
      truncated: 0,
      deleted: 0,
      replaced: 0,
      exchanged: 0,
    };
    let fetchedAgain = 0;
    for (const [digest, { damage }] of this.#damaged) {
      damaged[damage] += 1;
      if (damage !== 'deleted' && !altered.has(digest)) violations.push(`${digest}, ${damage}: not noticed`);
      const gets = this.#upstream.requestsFor(digest).filter(({ method }) => method === 'GET').length;
      if (gets >= 2) fetchedAgain += 1;
      else violations.push(`${digest}, ${damage}: not fetched again`);
    }
    for (const digest of altered) {
      if (!this.#damaged.has(digest as Digest))
        violations.push(`${String(digest)} was whole and is said to be altered`);
    }
    return {
      violations,
      damaged,
      rightBodies: this.#rightBodies,
      rottenBodies: this.#rottenBodies,
      found: altered.size,
      fetchedAgain,
      quarantined: (await readdir(join(this.#site.cacheDir, 'quarantine'))).length,
      rounds: this.#rounds().length,
    };
  }
}

async function read(site: TestSite, path: string): Promise<{ status: number; complete: boolean; sha256: string }> {
  return await site.get(path, { keepBody: false });
}
