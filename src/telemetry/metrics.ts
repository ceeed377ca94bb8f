import { createRequire } from 'node:module';
import type * as client from 'prom-client';
import { durationBounds, durationValues, type EndedRequest, Tallies, type Tally } from './tallies.ts';

type Counter = client.Counter;
type Gauge = client.Gauge;
type Histogram = client.Histogram;

// File by file: the index, and the default metrics, load the API of OpenTelemetry, which is larger than all of these.
const require = createRequire(import.meta.url);
const Counter = require('prom-client/lib/counter') as typeof client.Counter;
const Gauge = require('prom-client/lib/gauge') as typeof client.Gauge;
const Histogram = require('prom-client/lib/histogram') as typeof client.Histogram;
const Registry = require('prom-client/lib/registry') as typeof client.Registry;

/** The state of an upstream, read with the metrics. */
export interface UpstreamReading {
  readonly name: string;
  /** Whether it can be asked through one of its URLs at least. */
  readonly available: boolean;
  /** Pulls it has left for us; `undefined` where it has not said. */
  readonly remainingPulls: number | undefined;
}

/** Everything that is counted; label values are from closed sets: upstream names of the table, kinds, results. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #tallies = new Tallies();
  #isRead = false;
  readonly requests = this.#counter(
    'requests_total',
    'Requests of the registry API, by what they asked for and how they were answered.',
    ['upstream', 'kind', 'result'],
    () => this.#settle(),
  );
  readonly clientBytes = this.#counter(
    'client_bytes_total',
    'Bytes of bodies sent to clients.',
    ['upstream', 'kind'],
    () => this.#settle(),
  );
  readonly upstreamBytes = this.#counter('upstream_bytes_total', 'Bytes of bodies received from upstreams.', [
    'upstream',
  ]);
  readonly fills = this.#counter('fills_total', 'Blobs fetched, by what became of them.', ['result']);
  readonly sourceFailures = this.#counter('source_failures_total', 'Attempts to fetch a blob that failed.', [
    'upstream',
  ]);
  readonly signatureVerdicts = this.#counter(
    'signature_verdicts_total',
    'Images looked at for signatures that are asked for, by what came of it; not those remembered.',
    ['result'],
  );
  readonly wrongBytes = this.#counter('wrong_bytes_total', 'Blobs that arrived with other bytes than they should.', []);
  readonly webhooks = this.#counter('webhook_events_total', 'Events sent to receivers, by what became of them.', [
    'result',
  ]);
  readonly altered = this.#counter('altered_blobs_total', 'Blobs altered by others, put into quarantine.', []);
  readonly stale = this.#counter(
    'stale_answers_total',
    'Tags served past their time because the upstream could not answer.',
    ['upstream'],
  );
  readonly upstreamRefusals = this.#counter(
    'upstream_refusals_total',
    'Requests refused instead of being sent, because the upstream or its token service asked for a pause (limited) or does not answer (broken).',
    ['upstream', 'reason'],
  );
  readonly refusals = this.#counter('refusals_total', 'What was refused of clients, by reason.', ['reason']);
  readonly diskFaults = this.#counter('disk_faults_total', 'Operations that the disk of the cache has failed.', []);
  readonly prefetches = this.#counter('prefetches_total', 'Fetches on a schedule, by what came of them.', ['result']);
  readonly peerRequests = this.#counter(
    'peer_requests_total',
    'Requests of other replicas, by how they were answered.',
    ['result'],
  );
  readonly peerSentBytes = this.#counter('peer_sent_bytes_total', 'Bytes of blobs sent to other replicas.', []);
  readonly peerReceivedBytes = this.#counter('peer_received_bytes_total', 'Bytes received from other replicas.', []);
  readonly peerFailures = this.#counter(
    'peer_failures_total',
    'Blobs and manifests that another replica did not give, or not to the end.',
    ['fault'],
  );
  readonly redisCalls = this.#counter('redis_calls_total', 'Questions to Redis.', ['script', 'result']);
  readonly redisSeconds = this.#histogram(
    'redis_call_duration_seconds',
    'Time from a question to Redis to its answer.',
    ['script'],
    [0.0005, 0.001, 0.005, 0.025, 0.1, 0.5],
  );
  readonly catalogsLost = this.#counter('catalogs_lost_total', 'Catalogs lost while in use, and rebuilt.', []);
  readonly scrubbedBlobs = this.#counter(
    'scrubbed_blobs_total',
    'Stored blobs that were read again in the background, by what was found.',
    ['found'],
  );
  readonly scrubbedBytes = this.#counter('scrubbed_bytes_total', 'Bytes of them.', []);
  readonly repairs = this.#counter(
    'repairs_total',
    'Stored blobs found altered or missing by a scrub, by what became of them.',
    ['result'],
  );
  readonly rebuilding = this.#gauge(
    'catalog_rebuilding',
    'Whether the catalog is being rebuilt from the disk (1) or not (0).',
  );
  readonly evictions = this.#counter('evictions_total', 'Blobs evicted, by why.', ['reason']);
  readonly evictedBytes = this.#counter('evicted_bytes_total', 'Bytes of blobs evicted, by why.', ['reason']);
  readonly evictionDurations = this.#histogram(
    'eviction_duration_seconds',
    'Time from the first blob to the last that are evicted in one go, in small steps.',
  );
  readonly fillsRunning = this.#gauge('fills_running', 'Blobs being fetched now.');

  constructor() {
    this.#registerDurations();
  }

  /** Reads the state of the upstreams at each rendering. To be called once. */
  watchUpstreams(read: () => readonly UpstreamReading[]): void {
    this.#watchEach('upstream_available', 'upstream', {
      help: 'Whether the upstream can be asked through one of its URLs at least (1), or is left alone for now (0).',
      read: () => read().map(({ name, available }) => [name, Number(available)]),
    });
    this.#watchEach('upstream_ratelimit_remaining', 'upstream', {
      help: 'Pulls that the upstream has left for us; absent as long as it has not said.',
      read: () =>
        read().flatMap(({ name, remainingPulls }) => (remainingPulls === undefined ? [] : [[name, remainingPulls]])),
    });
  }

  /** Reads what is known of the other replicas at each rendering. To be called once. */
  watchReplicas(read: () => { readonly connected: boolean; readonly replicas: number; readonly leases: number }): void {
    this.watch('redis_connected', 'Whether Redis answers (1) or each replica is on its own (0).', () =>
      Number(read().connected),
    );
    this.watch('peer_replicas', 'Live replicas, this one included.', () => read().replicas);
    this.watch('peer_leases', 'Blobs that this replica fetches for all.', () => read().leases);
  }

  /** Reads how long certificates are good at each rendering. To be called once. */
  watchCertificates(read: () => readonly { readonly key: string; readonly untilMs: number }[]): void {
    this.#watchEach('certificate_expiry_timestamp_seconds', 'key', {
      help: 'When a certificate that the configuration names by file expires, in seconds since 1970; of authorities the one that is good for the longest.',
      read: () => read().map(({ key, untilMs }) => [key, untilMs / 1000]),
    });
  }

  /** A counter that is kept elsewhere and read at each rendering. To be called once for a name. */
  watchCount(name: string, help: string, read: () => number): void {
    const counter = this.#counter(name, help, [], () => {
      counter.reset();
      counter.inc(read());
    });
  }

  /** Reads what is stored at each rendering. To be called once. */
  watchCache(
    read: () => {
      readonly blobs: number;
      readonly bytes: number;
      readonly pinnedBytes: number;
      readonly unneededBytes: number;
      readonly budgetBytes: number;
    },
  ): void {
    this.watch('cache_blobs', 'Blobs stored, manifests among them.', () => read().blobs);
    this.watch('cache_bytes', 'Bytes of blobs stored, each counted once.', () => read().bytes);
    this.watch('cache_pinned_bytes', 'Bytes of blobs that a pin holds.', () => read().pinnedBytes);
    this.watch('cache_unneeded_bytes', 'Bytes of blobs that no image needs.', () => read().unneededBytes);
    this.watch('cache_budget_bytes', 'What the cache may take: cache.maxSize.', () => read().budgetBytes);
  }

  /** Counts a request that has ended. The labels of a combination are looked up when the metrics are read, not now. */
  countRequest(ended: EndedRequest): void {
    this.#tallies.count(ended);
  }

  /** Counts what another thread has counted. */
  addRequests(tallies: readonly Tally[]): void {
    for (const tally of tallies) this.#tallies.add(tally);
  }

  #settle(): void {
    this.requests.reset();
    this.clientBytes.reset();
    for (const { upstream, kind, result, requests, bytes } of this.#tallies.all) {
      this.requests.inc({ upstream, kind, result }, requests);
      this.clientBytes.inc({ upstream, kind }, bytes);
    }
  }

  #registerDurations(): void {
    const name = 'millpond_request_duration_seconds';
    const help = 'Time from a request to the last byte of its answer.';
    const read = () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: durationValues(name, this.#tallies.all),
    });
    const metric = { name, get: () => Promise.resolve(read()) };
    this.#registry.registerMetric(metric as unknown as client.Metric);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The exposition text of Prometheus. Metrics of the process and its event loop count from the first call on. */
  render(): Promise<string> {
    if (!this.#isRead) {
      this.#isRead = true;
      const collect = require('prom-client/lib/defaultMetrics') as typeof client.collectDefaultMetrics;
      collect({ register: this.#registry, prefix: 'millpond_' });
    }
    return this.#registry.metrics();
  }

  /** Adds a gauge, read when the metrics are; once for each name. */
  watch(name: string, help: string, value: () => number): void {
    const made = new Gauge({
      name: `millpond_${name}`,
      help,
      registers: [],
      collect() {
        this.set(value());
      },
    });
    this.#registry.registerMetric(made);
  }

  /** The same, with a value for each of a label's values. */
  #watchEach(name: string, label: string, { help, read }: { help: string; read: () => [string, number][] }): void {
    const made = new Gauge({
      name: `millpond_${name}`,
      help,
      labelNames: [label],
      registers: [],
      collect() {
        this.reset();
        for (const [key, value] of read()) this.set({ [label]: key }, value);
      },
    });
    this.#registry.registerMetric(made);
  }

  #counter(name: string, help: string, labelNames: string[], collect: () => void = () => undefined): Counter {
    return new Counter({ name: `millpond_${name}`, help, labelNames, collect, registers: [this.#registry] });
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `millpond_${name}`, help, registers: [this.#registry] });
  }

  #histogram(
    name: string,
    help: string,
    labelNames: string[] = [],
    buckets: readonly number[] = durationBounds,
  ): Histogram {
    return new Histogram({
      name: `millpond_${name}`,
      help,
      labelNames,
      buckets: [...buckets],
      registers: [this.#registry],
    });
  }
}
