/** The load of one thread: these numbers, one behind the other. */
const fields = 3;
const connectionsAt = 0;
const requestsAt = 1;
/** In KiB, rounded up, so that it fits in 32 bits. */
const memoryAt = 2;

/**
 * The load of each thread of the process, in memory that all of them see, so that a limit for the process
 * holds for all of them together. Threads that count at the same moment may go past it by one each.
 */
export class Loads {
  /** For other threads: {@link Loads} over it reads the same numbers. */
  readonly buffer: SharedArrayBuffer;
  readonly #cells: Int32Array;

  /** @param from how many threads there are, or the buffer of another thread */
  constructor(from: number | SharedArrayBuffer) {
    this.buffer = typeof from === 'number' ? new SharedArrayBuffer(from * fields * Int32Array.BYTES_PER_ELEMENT) : from;
    this.#cells = new Int32Array(this.buffer);
  }

  /** The numbers of one thread. @param index from 0, which is the main thread */
  seat(index: number): LoadSeat {
    return new LoadSeat(this.#cells, index * fields);
  }
}

/** The load of one thread, and that of the others. */
export class LoadSeat {
  readonly #cells: Int32Array;
  readonly #start: number;

  constructor(cells: Int32Array, start: number) {
    this.#cells = cells;
    this.#start = start;
  }

  reportConnections(count: number): void {
    Atomics.store(this.#cells, this.#start + connectionsAt, count);
  }

  reportRequests(count: number): void {
    Atomics.store(this.#cells, this.#start + requestsAt, count);
  }

  reportMemory(bytes: number): void {
    Atomics.store(this.#cells, this.#start + memoryAt, Math.ceil(bytes / 1024));
  }

  /** The thread is gone, and its connections with it. */
  clear(): void {
    for (let at = 0; at < fields; at += 1) Atomics.store(this.#cells, this.#start + at, 0);
  }

  /** Connections of the other threads. */
  get otherConnections(): number {
    return this.#others(connectionsAt);
  }

  /** Requests that the other threads answer. */
  get otherRequests(): number {
    return this.#others(requestsAt);
  }

  /** Memory of the other threads, in bytes. */
  get otherMemoryBytes(): number {
    return this.#others(memoryAt) * 1024;
  }

  #others(field: number): number {
    let sum = 0;
    for (let start = 0; start < this.#cells.length; start += fields) {
      if (start !== this.#start) sum += Atomics.load(this.#cells, start + field);
    }
    return sum;
  }
}
