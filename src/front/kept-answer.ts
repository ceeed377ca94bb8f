import type { Stamp } from './generations.ts';

/** A stored blob's file. One of another size or time is not the file that was kept. */
export interface KeptFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** When it was last written to, in milliseconds since 1970. */
  readonly modifiedAtMs: number;
}

export type KeptBody =
  | { readonly kind: 'none' }
  /** Bytes as latin1 text: they leave together with the headers, as one piece of memory. */
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** Bytes `start` to `end` (exclusive) of the file. */
  | { readonly kind: 'file'; readonly start: number; readonly end: number };

/** The fields of the log and the metrics for each request that gets the answer. */
export interface About {
  readonly method: string;
  readonly path: string;
  readonly kind: string;
  readonly upstream: string;
  readonly repository: string | undefined;
  readonly namedBy: string | undefined;
  readonly outcome: string;
  readonly through: string | undefined;
}

/** A whole answer, and for how long and on which facts it may be given again. Plain data: can go to another thread. */
export interface KeptAnswer {
  readonly status: number;
  /** Name, value, name, value. */
  readonly headers: readonly string[];
  readonly body: KeptBody;
  /** Bytes of the body. */
  readonly length: number;
  /** The file that has to be as it was, whether or not it is the body. */
  readonly file?: KeptFile | undefined;
  /** The value of the header `Age` is at `at`: the seconds since `fromMs`, wall clock. */
  readonly age?: { readonly at: number; readonly fromMs: number } | undefined;
  /** When it may be given, wall clock in milliseconds: from `sinceMs` until just before `untilMs`. */
  readonly sinceMs: number;
  readonly untilMs: number;
  readonly stamp: Stamp;
  /** The digest of which each answer is a use; absent: of none. */
  readonly digest?: string | undefined;
  readonly about: About;
}

/** The approximate memory of a kept answer, in bytes. */
export function weightOf({ headers, body }: KeptAnswer, key: string): number {
  const inMemory = body.kind === 'text' ? body.text.length : body.kind === 'bytes' ? body.bytes.length : 0;
  return 1024 + key.length + headers.length * 24 + inMemory;
}
