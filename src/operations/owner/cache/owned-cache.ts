import type { KeyStore } from '../../../access/key-store.ts';
import type { Mirror } from '../../../mirror/mirror.ts';
import type { Digest } from '../../../oci/digest.ts';
import type { Report } from '../../../oci/report.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { Room } from '../../../store/eviction/room.ts';
import type { DiskStore } from '../../../store/files/disk-store.ts';
import type { Layout } from '../../../store/files/layout.ts';
import type { Repository } from '../../../upstream/repository.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import type { Repair } from '../verify/repair.ts';

/** A change by an operator, for the log and for other replicas. `repository`: as the cache names it; `reference`: a tag or a digest. */
export type AdministrationEvent =
  | {
      readonly kind: 'removed';
      readonly repository: string;
      readonly reference: string;
      /** The space that was freed. */
      readonly blobs: number;
      readonly bytes: number;
    }
  | { readonly kind: 'pinned' | 'unpinned'; readonly repository: string; readonly reference: string };

/** A digest that is held, or has been. */
export interface HoldRecord {
  readonly digest: Digest;
  /** By repository, in milliseconds since 1970. */
  readonly heldAtMs: Readonly<Record<string, number>>;
  readonly verdict?: 'approved' | 'rejected' | undefined;
  readonly reason?: string | undefined;
}

/** Decides of images by the names that people write. */
export interface HoldDecider {
  /** @throws Error in one sentence where there is no such image here */
  decide(
    image: string,
    decision: { readonly verdict: 'approved' | 'rejected'; readonly reason: string | undefined },
  ): Promise<{ readonly repository: string; readonly digest: Digest; readonly digests: readonly Digest[] }>;
}

/** Decides by signatures which images are taken from an upstream and passed on. */
export interface SignatureChecks {
  /**
   * Makes sure that an image could be pulled.
   * @returns what a client would be warned of; `undefined`: nothing
   * @throws RegistryError unsigned, or what the look-up of its signatures failed with; the signal's reason
   */
  ofUpstream(
    repository: Repository,
    digest: Digest,
    waiting: { readonly signal: AbortSignal },
  ): Promise<string | undefined>;
  /** As {@link ofUpstream}, by the signatures that are stored: no upstream is contacted. */
  ofStored(
    repository: Repository,
    digest: Digest,
    waiting: { readonly signal: AbortSignal },
  ): Promise<string | undefined>;
}

/** A cache directory that this process owns, with the mirror on top; the configuration is read at each use. */
export interface OwnedCache {
  readonly layout: Layout;
  readonly catalog: Catalog;
  readonly store: DiskStore;
  readonly mirror: Mirror;
  readonly upstreams: { readonly table: UpstreamTable };
  readonly repair: Repair;
  /** Room on the disk. */
  readonly room: Pick<Room, 'reserve'>;
  readonly config: {
    readonly offline: boolean;
    readonly cache: { readonly maxSizeBytes: number; readonly maxFills: number };
  };
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Failed reads and writes of the catalog so far. */
  readonly catalogFaults: number;
  /** Decides of what is held for scanners. */
  readonly decisions: HoldDecider;
  readonly holds: { all(): Iterable<HoldRecord> };
  readonly signatures: SignatureChecks;
  readonly reportAdministration: Report<AdministrationEvent>;
  /** Keys of robots. */
  readonly keys: KeyStore;
  /** Writes down what operators change. */
  readonly audit: (event: 'key created' | 'key removed', fields: Readonly<Record<string, unknown>>) => void;
}
