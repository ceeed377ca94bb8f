import { randomBytes } from 'node:crypto';
import { access } from 'node:fs/promises';
import { DatabaseSync } from 'node:sqlite';
import { expect } from 'vitest';
import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import { type EvictionReason, Evictor } from '../../src/store/eviction/evictor.ts';
import { DiskStore } from '../../src/store/files/disk-store.ts';
import type { FileSystem } from '../../src/store/files/file-system.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

export const repository = 'docker.io/library/app';
export const KB = 1000;
export const hourMs = 60 * 60 * 1000;

interface Part {
  readonly layers?: readonly Digest[];
  readonly children?: readonly Digest[];
  readonly subject?: Digest;
  readonly name?: string;
}

/** A cache without a mirror over it, and a clock that moves a minute with every use. */
export class Shelf implements AsyncDisposable {
  readonly budget = { maxSizeBytes: 1000 * KB, minFreeBytes: 0 };
  readonly evicted: { digest: Digest; reason: EvictionReason }[] = [];
  readonly faults: unknown[] = [];
  fileSystem: FileSystem | undefined;
  nowMs = 1_700_000_000_000;
  readonly path: string;
  readonly layout;
  readonly store;
  readonly catalog;
  readonly evictor;
  readonly #owned;

  private constructor(
    path: string,
    catalog: Catalog,
    { owned, offline }: { owned: AsyncDisposableStack; offline: boolean },
  ) {
    this.path = path;
    this.catalog = catalog;
    this.layout = layoutOf(path);
    this.store = new DiskStore({ layout: this.layout, memoryBytes: 100 * KB });
    this.#owned = owned;
    this.evictor = owned.use(
      new Evictor({
        store: this.store,
        catalog,
        offline,
        budget: this.budget,
        fileSystem: () => Promise.resolve(this.fileSystem),
        report: (event) => {
          if (event.kind === 'evicted') this.evicted.push({ digest: event.digest, reason: event.reason });
          else if (event.kind === 'failed') this.faults.push(event.error);
        },
      }),
    );
  }

  static async open({ offline = false, keepsRows = false } = {}): Promise<Shelf> {
    await using owned = new AsyncDisposableStack();
    const { path } = owned.use(await temporaryDirectory('evictor'));
    await prepareLayout(layoutOf(path));
    const shelf: { current?: Shelf } = {};
    const openCatalog = async (): Promise<Catalog> =>
      await Catalog.open({
        path: layoutOf(path).catalog,
        now: () => shelf.current?.nowMs ?? 0,
        onFault: (error) => {
          if (!keepsRows) throw error;
        },
      });
    if (keepsRows) {
      (await openCatalog())[Symbol.dispose]();
      using database = new DatabaseSync(layoutOf(path).catalog);
      database.exec(`CREATE TRIGGER kept BEFORE DELETE ON blobs BEGIN SELECT RAISE(ABORT, 'rows stay'); END`);
    }
    const catalog = owned.use(await openCatalog());
    shelf.current = new Shelf(path, catalog, { owned: owned.move(), offline });
    return shelf.current;
  }

  async blob(bytes: number): Promise<Digest> {
    const content = randomBytes(bytes);
    const digest = digestOf(content);
    await this.store.put(digest, content);
    this.catalog.blobs.record(digest, { size: bytes, contentType: 'application/octet-stream' });
    return digest;
  }

  /** Stores a manifest; what it names is there already or not. */
  async manifest({ layers = [], children = [], subject, name = String(this.nowMs) }: Part): Promise<Digest> {
    this.nowMs += 60_000;
    const described = (digest: Digest) => ({
      mediaType: children.length > 0 ? ociManifest : 'application/x',
      digest,
      size: 1,
    });
    const body = Buffer.from(
      JSON.stringify({
        name,
        ...(children.length > 0 ? { manifests: children.map(described) } : { layers: layers.map(described) }),
        ...(subject && { subject: described(subject) }),
      }),
    );
    const contentType = children.length > 0 ? ociIndex : ociManifest;
    const digest = digestOf(body);
    await this.store.put(digest, body);
    const links = readManifest(body, contentType);
    this.catalog.manifests.record(digest, { repository, size: body.length, contentType, links });
    return digest;
  }

  async image(bytes: number, base: readonly Digest[] = []): Promise<{ manifest: Digest; layer: Digest }> {
    const layer = await this.blob(bytes);
    return { layer, manifest: await this.manifest({ layers: [...base, layer] }) };
  }

  tag(name: string, digest: Digest): void {
    const key = { repository, tag: name, variant: '' };
    this.catalog.tags.record(key, { digest, contentType: ociManifest, size: 1, checkedAtMs: this.nowMs });
  }

  use(manifest: Digest, times = 1): void {
    for (let time = 0; time < times; time += 1) this.catalog.uses.touch(manifest);
    this.nowMs += 60_000;
    this.catalog.uses.flush();
  }

  async isHere(digest: Digest): Promise<boolean> {
    const hasFile = await access(this.layout.blob(digest)).then(
      () => true,
      () => false,
    );
    expect(hasFile, 'the disk and the catalog agree').toBe(this.catalog.blobs.get(digest) !== undefined);
    return hasFile;
  }

  async here(...digests: readonly Digest[]): Promise<boolean[]> {
    return await Promise.all(digests.map((digest) => this.isHere(digest)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#owned.disposeAsync();
  }
}
