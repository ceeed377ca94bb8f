import type { Slabs } from '../memory/slabs.ts';
import { blobFact, type Changes } from '../oci/facts.ts';
import { ReplicaAnswers } from '../replicas/answers.ts';
import { ReplicaQuestions } from '../replicas/questions.ts';
import type { Replicas } from '../replicas/replicas.ts';
import { Custody } from '../store/care/custody.ts';
import type { Catalog } from '../store/catalog/catalog.ts';
import { upstreamOf } from '../store/catalog/grant-records.ts';
import { RememberedLists } from '../store/catalog/remembered-lists.ts';
import { type BlobStore, DiskFault } from '../store/files/blob-store.ts';
import type { Verification } from '../store/files/verification.ts';
import type { Repository } from '../upstream/repository.ts';
import { Blobs } from './blobs.ts';
import { Downloads } from './fill/downloads.ts';
import type { FillObserver } from './fill/fill-events.ts';
import { Listings } from './listings.ts';
import { Manifests } from './manifests.ts';
import type { MirrorEvent, Report } from './mirror-event.ts';
import { PeerService } from './sharing/peer-service.ts';

export interface MirrorOptions {
  readonly store: BlobStore;
  readonly catalog: Catalog;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  /** Receives events of fills. */
  readonly observer: FillObserver;
  /** Receives everything else that is worth a log line or a metric. */
  readonly report: Report<MirrorEvent>;
  /** `maxFills`: how many blobs may be fetched at a time; may be changed while the mirror runs. */
  readonly limits: { readonly maxFills: number; readonly maxBlobBytes: number };
  readonly replicas: Replicas;
  /** Reads a stored blob again while a client waits. */
  readonly check: Verification['check'];
  /** A repository by the cache's name of it, where it may be pulled from. */
  readonly repository: (key: string) => Repository | undefined;
  /** The memory that blobs pass through; absent: some of its own. */
  readonly slabs?: Slabs | undefined;
  /** Receives each fact that changes here; absent: no answers are kept. */
  readonly changes?: Changes | undefined;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

/** The use cases of a mirror, over one store and one catalog. */
export class Mirror implements AsyncDisposable {
  readonly blobs: Blobs;
  readonly manifests: Manifests;
  readonly listings: Listings;
  readonly downloads: Downloads;
  readonly custody: Custody;
  /** What other replicas are served. */
  readonly peerService: PeerService;
  /** Answers other replicas that ask what upstreams have said. */
  readonly replicaAnswers: ReplicaAnswers;

  constructor(options: MirrorOptions) {
    const { store, catalog, observer, report, now, offline, replicas } = options;
    const { coordinator } = replicas;
    const questions = new ReplicaQuestions(replicas);
    const lists = new RememberedLists({ notes: catalog.notes, now });
    const onDiskFault = (error: DiskFault) => report({ kind: 'disk-fault', error });
    this.downloads = new Downloads({
      store,
      observer,
      limits: options.limits,
      slabs: options.slabs,
      onBegun: (digest) => options.changes?.changed(blobFact(digest)),
      route: (digest, sources, route) => replicas.route(digest, sources, route),
      onStored: (digest, blob) => catalog.blobs.record(digest, blob),
      isLeftoverOf: (digest, upstream) =>
        catalog.grants.readers(digest).every((repository) => upstreamOf(repository) === upstream),
    });
    this.custody = new Custody({
      store,
      catalog,
      check: options.check,
      onAltered: (digest) => report({ kind: 'altered', digest }),
    });
    this.blobs = new Blobs({
      store,
      catalog,
      offline,
      onDiskFault,
      custody: this.custody,
      downloads: this.downloads,
      coordinator,
      questions,
      now,
    });
    this.manifests = new Manifests({
      store,
      catalog,
      offline,
      report,
      now,
      replicas,
      questions,
      changes: options.changes,
    });
    this.peerService = new PeerService({
      store,
      catalog,
      downloads: this.downloads,
      coordinator,
      offline,
      repository: options.repository,
      onDiskFault,
      requireShown: (repository, digest, waiting) =>
        (catalog.manifests.has(digest) ? this.manifests : this.blobs).content.requireShown(repository, digest, waiting),
    });
    this.replicaAnswers = new ReplicaAnswers({
      catalog,
      coordinator,
      lists,
      now,
      repository: options.repository,
      isWhole: (repository, digest) => this.manifests.isWhole(repository, digest),
    });
    this.listings = new Listings({ catalog, offline, now, lists, questions, coordinator, manifests: this.manifests });
  }

  /** Stops what is being fetched; partial files stay to be continued. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.manifests[Symbol.asyncDispose]();
    await this.custody[Symbol.asyncDispose]();
    await this.downloads[Symbol.asyncDispose]();
  }
}
