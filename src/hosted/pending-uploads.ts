import { Tally } from '../waiting/tally.ts';

/** An upload that has begun and has not ended, as it is counted. */
interface Pending {
  readonly repository: string;
  /** The key of the client that has begun it. */
  readonly caller: string;
  /** Bytes that it has, or has announced. */
  bytes: number;
  /** When it last received something, in milliseconds since 1970. */
  usedAtMs: number;
  /** Chunks that are being received, or wait for their turn. */
  chunks: number;
  /** Ends its chunks. */
  readonly ending: AbortController;
}

/** The uploads that have not ended: how many each client has, and how many bytes of each repository they take. */
export class PendingUploads {
  readonly #uploads = new Map<string, Pending>();
  readonly #bytes = new Tally();
  readonly #counts = new Tally();
  readonly #now: () => number;

  /** @param now wall clock in milliseconds */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param upload `usedAtMs`: default: now */
  add(
    id: string,
    upload: {
      readonly repository: string;
      readonly caller: string;
      readonly bytes: number;
      readonly usedAtMs?: number;
    },
  ): void {
    if (this.#uploads.has(id)) return;
    const { repository, caller, bytes, usedAtMs = this.#now() } = upload;
    this.#uploads.set(id, { repository, caller, bytes, usedAtMs, chunks: 0, ending: new AbortController() });
    this.#bytes.add(repository, bytes);
    this.#counts.add(caller, 1);
  }

  remove(id: string): void {
    const upload = this.#uploads.get(id);
    if (upload === undefined) return;
    this.#uploads.delete(id);
    this.#bytes.add(upload.repository, -upload.bytes);
    this.#counts.add(upload.caller, -1);
  }

  /** Bytes of all uploads to a repository. */
  bytes(repository: string): number {
    return this.#bytes.get(repository);
  }

  /** How many uploads a client has. */
  count(caller: string): number {
    return this.#counts.get(caller);
  }

  /** Bytes of one upload. */
  size(id: string): number {
    return this.#uploads.get(id)?.bytes ?? 0;
  }

  setSize(id: string, bytes: number): void {
    const upload = this.#uploads.get(id);
    if (upload === undefined) return;
    this.#bytes.add(upload.repository, bytes - upload.bytes);
    upload.bytes = bytes;
  }

  /**
   * To be called before a chunk waits for its turn: a cancel ends those that wait, too. The upload is in use until the
   * result is disposed.
   */
  receiving(id: string): { readonly signal: AbortSignal } & Disposable {
    const upload = this.#uploads.get(id);
    if (upload === undefined) return { signal: new AbortController().signal, [Symbol.dispose]: () => undefined };
    upload.chunks += 1;
    return {
      signal: upload.ending.signal,
      [Symbol.dispose]: () => {
        upload.chunks -= 1;
        upload.usedAtMs = this.#now();
      },
    };
  }

  isReceiving(id: string): boolean {
    return (this.#uploads.get(id)?.chunks ?? 0) > 0;
  }

  /** Ends the chunks that an upload is receiving, or is about to. */
  interrupt(id: string, reason: Error): void {
    this.#uploads.get(id)?.ending.abort(reason);
  }

  /** The uploads that have received nothing for so long. */
  idle(idleMs: number, { repository, caller }: { readonly repository?: string; readonly caller?: string }): string[] {
    const beforeMs = this.#now() - idleMs;
    return [...this.#uploads]
      .filter(([, upload]) => upload.chunks === 0 && upload.usedAtMs <= beforeMs)
      .filter(([, upload]) => repository === undefined || upload.repository === repository)
      .filter(([, upload]) => caller === undefined || upload.caller === caller)
      .map(([id]) => id);
  }
}
