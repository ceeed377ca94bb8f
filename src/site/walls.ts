import type { Config } from '../config/config.ts';
import { Loads } from '../front/loads.ts';
import { Admission, type Load, type Overload } from '../http/admission.ts';
import type { MalformedKind } from '../http/server.ts';
import { MemoryBudget } from '../memory/memory-budget.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { wantedThreads } from './front-threads.ts';
import type { Health } from './health.ts';
import { limitsInForce, processMeans } from './limits.ts';

/** How often one kind of refusal is logged, in milliseconds. */
const logEveryMs = 10_000;

/** The limits of the whole process: if one is reached, every client may be refused. */
const ofAll: Partial<Record<Overload, string>> = {
  connections: 'limits.connections is reached: further connections are refused',
  requests: 'limits.requests is reached: further requests are refused',
  memory: 'limits.memory is reached: further answers are refused',
};

/** The status of the limits: how much clients take of this process. */
export interface WallsStatus extends Load {
  /** Memory of answers and of blobs on their way. */
  readonly memoryBytes: number;
  readonly memoryPeakBytes: number;
  readonly memoryLimitBytes: number;
  /** Refused since the start, by what was used up. */
  readonly refusals: Readonly<Partial<Record<Overload, number>>>;
}

/** The walls between clients: the limits in effect, and their metrics. */
export class Walls {
  readonly memory: MemoryBudget;
  readonly admission: Admission;
  /** The loads of the main thread and the fronts: the limits are for all of them together. */
  readonly loads: Loads;
  readonly #refusals: Partial<Record<Overload, number>> = {};
  readonly #loggedAtMs = new Map<string, number>();
  readonly #parts: { readonly log: Logger; readonly metrics: Metrics; readonly health: Health };

  /** @param parts.config read each time: it may be replaced while the mirror runs */
  constructor(parts: { readonly config: () => Config; log: Logger; metrics: Metrics; health: Health }) {
    this.#parts = parts;
    const means = processMeans();
    const limits = () => limitsInForce(parts.config().limits, means);
    let config: Config | undefined;
    let inForce = limits();
    const current = (): typeof inForce => {
      if (config !== parts.config()) inForce = limits();
      config = parts.config();
      return inForce;
    };
    const threads = wantedThreads(parts.config());
    this.loads = new Loads(threads === 1 ? 1 : 1 + threads);
    const seat = threads === 1 ? undefined : this.loads.seat(0);
    const memoryLimit = {
      get memoryBytes() {
        return current().memoryBytes;
      },
    };
    this.memory = new MemoryBudget(memoryLimit, seat);
    this.admission = new Admission({
      get limits() {
        return current();
      },
      memory: this.memory,
      seat,
      onRefused: (reason, client) => this.#refused(reason, client),
    });
    const { metrics } = parts;
    metrics.watch('client_connections', 'Connections of clients.', () => this.admission.load().connections);
    metrics.watch('requests_running', 'Requests being answered.', () => this.admission.load().requests);
    metrics.watch(
      'waiting_bytes',
      'Bytes of answers in memory that wait for their clients.',
      () => this.admission.load().waitingBytes,
    );
    metrics.watch(
      'memory_budget_used_bytes',
      'Memory of answers and of blobs on their way.',
      () => this.memory.usedBytes,
    );
    metrics.watch('memory_budget_bytes', 'Limit of that memory: limits.memory.', () => this.memory.limitBytes);
  }

  status(): WallsStatus {
    const { usedBytes, peakBytes, limitBytes } = this.memory;
    return {
      ...this.admission.load(),
      memoryBytes: usedBytes,
      memoryPeakBytes: peakBytes,
      memoryLimitBytes: limitBytes,
      refusals: { ...this.#refusals },
    };
  }

  /** Counts a request that cannot be read. */
  malformed(kind: MalformedKind): void {
    const { metrics, log } = this.#parts;
    metrics.refusals.inc({ reason: kind });
    log.debug({ kind }, 'a request is malformed');
  }

  #refused(reason: Overload, client: string): void {
    const { metrics, health, log } = this.#parts;
    this.#refusals[reason] = (this.#refusals[reason] ?? 0) + 1;
    metrics.refusals.inc({ reason });
    const sentence = ofAll[reason];
    if (sentence !== undefined) health.fault({ code: 'overloaded', text: sentence });
    const nowMs = performance.now();
    if (nowMs - (this.#loggedAtMs.get(reason) ?? Number.NEGATIVE_INFINITY) < logEveryMs) return;
    this.#loggedAtMs.set(reason, nowMs);
    log.warn({ reason, client, refused: this.#refusals[reason], ...this.admission.load() }, 'clients are refused');
  }
}
