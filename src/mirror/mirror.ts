import type { Slabs } from '../memory/slabs.ts';
import type { Digest } from '../oci/digest.ts';
import { blobFact } from '../oci/facts.ts';
import { ReplicaAnswers } from '../replicas/answers.ts';
import { ReplicaQuestions } from '../replicas/questions.ts';
import { Custody } from '../store/care/custody.ts';
import { upstreamOf } from '../store/catalog/grant-records.ts';
import { RememberedLists } from '../store/catalog/remembered-lists.ts';
import type { DiskFault } from '../store/files/blob-store.ts';
import type { Verification } from '../store/files/verification.ts';
import type { Repository } from '../upstream/repository.ts';
import { Blobs } from './blobs.ts';
import { Fills, type FillsOptions } from './fill/fills.ts';
import { GoneParts } from './gone-parts.ts';
import { Listings } from './listings.ts';
import { Manifests } from './manifests.ts';
import type { MirrorParts } from './parts.ts';
import { PeerService } from './sharing/peer-service.ts';
import { routeOf } from './sharing/shared-route.ts';

export interface MirrorOptions
  extends Pick<MirrorParts, 'store' | 'catalog' | 'offline' | 'report' | 'replicas' | 'changes' | 'now'> {
  /** `maxFills`: how many blobs may be fetched at a time; may be changed while the mirror runs. */
  readonly limits: { readonly maxFills: number; readonly maxBlobBytes: number };
  /** Reads a stored blob again while a client waits. */
  readonly check: Verification['check'];
  /** A repository by the cache's name of it, where it may be pulled from. */
  readonly repository: (key: string) => Repository | undefined;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
}

/** The use cases of a mirror, over one store and one catalog. */
export class Mirror implements AsyncDisposable {
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly listings: Listings;
  readonly fills: Fills;
  readonly custody: Custody;
  /** Serves blobs to other replicas. */
  readonly peerService: PeerService;
  /** Answers other replicas that ask for answers of upstreams. */
  readonly replicaAnswers: ReplicaAnswers;
  /** Whether a digest is stored here. */
  readonly isStored: (digest: Digest) => boolean;

  constructor(options: MirrorOptions) {
    const { store, catalog, report, now, offline, replicas, repository, changes } = options;
    const { coordinator } = replicas;
    const common = { store, catalog, offline, now, report, coordinator };
    const onDiskFault = (error: DiskFault) => report({ kind: 'disk-fault', error });

    // Pulls of clients.
    const questions = new ReplicaQuestions(replicas);
    const lists = new RememberedLists({ notes: catalog.notes, now });
    const gone = new GoneParts({ catalog, now, changes });
    this.fills = new Fills(fillsOptions(options));
    const { fills } = this;
    const onAltered = (digest: Digest) => report({ kind: 'altered', digest });
    this.custody = new Custody({ store, catalog, check: options.check, onAltered });
    this.blobs = new Blobs({ ...common, onDiskFault, custody: this.custody, fills, questions, gone });
    this.manifests = new Manifests({ ...common, replicas, questions, gone, changes });
    const { blobs, manifests } = this;
    this.listings = new Listings({ ...common, lists, questions, manifests });

    // Requests of other replicas.
    this.peerService = new PeerService({
      ...common,
      fills,
      repository,
      onDiskFault,
      requireShown: (of, digest, waiting) =>
        (catalog.manifests.has(digest) ? manifests : blobs).content.requireShown(of, digest, waiting),
    });
    const isWhole = (of: string, digest: Digest) => manifests.isWhole(of, digest);
    this.replicaAnswers = new ReplicaAnswers({ ...common, lists, repository, isWhole });
    this.isStored = (digest) => catalog.blobs.get(digest) !== undefined;
  }

  /** Stops the fills; partial files stay to be continued. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.manifests[Symbol.asyncDispose]();
    await this.custody[Symbol.asyncDispose]();
    await this.fills[Symbol.asyncDispose]();
  }
}

function fillsOptions(options: MirrorOptions): FillsOptions {
  const { store, catalog, report, replicas, limits, slabs, changes } = options;
  return {
    store,
    report,
    limits,
    slabs,
    onBegun: (digest) => changes?.changed(blobFact(digest)),
    route: replicas.peers && ((digest, sources, fill) => routeOf(replicas, { digest, sources, ...fill })),
    onStored: (digest, blob) => catalog.blobs.record(digest, blob),
    isLeftoverOf: (digest, upstream) =>
      catalog.grants.readers(digest).every((repository) => upstreamOf(repository) === upstream),
  };
}
