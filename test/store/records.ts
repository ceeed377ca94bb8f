import { readManifest } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { Catalog } from '../../src/store/catalog/catalog.ts';
import type { CatalogNews } from '../../src/store/catalog/news.ts';

export const app = 'docker.io/library/app';
export const other = 'docker.io/library/other';
export const foreign = 'quay.io/app';
export const digest = (name: string): Digest => digestOf(Buffer.from(name));
export const sorted = (...digests: Digest[]): Digest[] => digests.toSorted();

/** A catalog in memory, with a clock, filled by a line each. */
export class Records implements Disposable {
  nowMs = 1_700_000_000_000;
  readonly changed: string[] = [];
  readonly news: CatalogNews[] = [];
  readonly catalog: Catalog;

  private constructor(catalog: Catalog) {
    this.catalog = catalog;
  }

  static async open(): Promise<Records> {
    const own: { records?: Records } = {};
    own.records = new Records(
      await Catalog.open({
        path: ':memory:',
        now: () => own.records?.nowMs ?? 0,
        onFault: (error) => {
          throw error;
        },
        onNews: (news) => own.records?.news.push(news),
        changes: { changed: (fact) => own.records?.changed.push(fact), changedAll: () => undefined, count: () => 0 },
      }),
    );
    return own.records;
  }

  blob(name: string, { size = 10, shownBy }: { size?: number; shownBy?: string } = {}): Digest {
    this.catalog.blobs.record(digest(name), { size, contentType: 'application/octet-stream', shownBy });
    return digest(name);
  }

  manifest(
    name: string,
    of: { layers?: Digest[]; children?: Digest[]; subject?: Digest; repository?: string; size?: number; type?: string },
  ): Digest {
    const { layers = [], children = [], subject, repository = app, size = 100, type = 'application/x' } = of;
    const described = (mediaType: string) => (one: Digest) => ({ mediaType, digest: one, size: 7 });
    const body = {
      ...(children.length > 0
        ? { manifests: children.map(described(ociManifest)) }
        : { layers: layers.map(described(type)) }),
      ...(subject && { subject: described(ociManifest)(subject) }),
    };
    const contentType = children.length > 0 ? ociIndex : ociManifest;
    const links = readManifest(Buffer.from(JSON.stringify(body)), contentType);
    this.catalog.manifests.record(digest(name), { repository, size, contentType, links, source: 'upstream' });
    return digest(name);
  }

  tag(
    tag: string,
    of: Digest,
    { repository = app, variant = '', access }: { repository?: string; variant?: string; access?: string } = {},
  ): void {
    const record = { digest: of, contentType: ociManifest, size: 100, checkedAtMs: this.nowMs, access };
    this.catalog.tags.record({ repository, tag, variant }, record);
  }

  id(name: string): number {
    return this.catalog.images.repositories({ after: '', limit: 100 }).find((row) => row.name === name)?.id ?? 0;
  }

  [Symbol.dispose](): void {
    this.catalog[Symbol.dispose]();
  }
}
