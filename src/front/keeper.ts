import type { IncomingMessage } from 'node:http';
import type { Generations } from './generations.ts';
import type { About, KeptAnswer, KeptBody, KeptFile } from './kept-answer.ts';

/** Up to this size, copying a body behind its headers costs less than two writes. */
const textBytes = 16 * 1024;
/** Larger bodies than this that are in memory are not kept: one answer must not drive out the others. */
const maxBodyBytes = 4 * 1024 * 1024;

/** An answer that has been decided. */
export interface Decided {
  readonly status: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  /** Bytes in memory, or of the file. */
  readonly body: Buffer | { readonly start: number; readonly end: number } | undefined;
  readonly file: KeptFile | undefined;
  /** The facts that it rests on, which hold in this turn of the event loop. */
  readonly facts: readonly string[];
  /** Wall clock in milliseconds; absent: no limit. */
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  /** Of an answer that says its age: from when on that counts, wall clock in milliseconds. */
  readonly confirmedAtMs?: number | undefined;
  /** The digest of which each answer is a use; absent: of none. */
  readonly digest?: string | undefined;
  readonly about: About;
}

export interface KeeperOptions {
  readonly generations: Generations;
  /** The key under which the answer to a request may be kept. */
  readonly keyOf: (request: IncomingMessage) => string | undefined;
  readonly keep: (key: string, answer: KeptAnswer) => void;
  /** Whether answers may be kept as things are configured; read each time. */
  readonly isAllowed: () => boolean;
}

/** Keeps answers that have been decided, to be given again without asking. */
export class Keeper {
  readonly #options: KeeperOptions;

  constructor(options: KeeperOptions) {
    this.#options = options;
  }

  /** Whether the answer to a request can be kept at all. */
  wants(request: IncomingMessage): boolean {
    return this.#options.isAllowed() && this.#options.keyOf(request) !== undefined;
  }

  /**
   * Makes an answer to be kept, with its facts as they are in this turn of the event loop.
   * @returns what keeps it; to be called once it is known that it can be sent
   */
  offer(request: IncomingMessage, decided: Decided): (() => void) | undefined {
    const { keyOf, keep } = this.#options;
    const key = this.wants(request) ? keyOf(request) : undefined;
    const answer = key === undefined ? undefined : this.make(decided);
    if (key === undefined || answer === undefined) return undefined;
    return () => keep(key, answer);
  }

  /** An answer as it is kept, with its facts as they are in this turn of the event loop; `undefined`: it is too large. */
  make(decided: Decided): KeptAnswer | undefined {
    const body = bodyOf(decided);
    if (body === undefined) return undefined;
    const { status, headers, file, sinceMs = 0, untilMs = Number.POSITIVE_INFINITY, digest, about } = decided;
    return {
      status,
      headers,
      body: body.body,
      length: body.length,
      file,
      age: ageOf(decided),
      sinceMs,
      untilMs,
      stamp: this.#options.generations.stamp(decided.facts),
      digest,
      about,
    };
  }
}

function bodyOf({ body, file }: Decided): { readonly body: KeptBody; readonly length: number } | undefined {
  if (body === undefined) return { body: { kind: 'none' }, length: 0 };
  if (!Buffer.isBuffer(body)) {
    return file && { body: { kind: 'file', ...body }, length: body.end - body.start };
  }
  const { length } = body;
  if (length <= textBytes) return { body: { kind: 'text', text: body.toString('latin1') }, length };
  return length > maxBodyBytes ? undefined : { body: { kind: 'bytes', bytes: body }, length };
}

function ageOf({ headers, confirmedAtMs }: Decided): KeptAnswer['age'] {
  if (confirmedAtMs === undefined) return undefined;
  const name = headers.indexOf('Age');
  return name === -1 ? undefined : { at: name + 1, fromMs: confirmedAtMs };
}
