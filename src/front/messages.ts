import type { Tally } from '../telemetry/tallies.ts';
import type { KeptAnswer } from './kept-answer.ts';

/** The data with which a front thread starts. */
export interface FrontSettings {
  /** `undefined`: every address. */
  readonly host: string | undefined;
  readonly port: number;
  /** The counters of facts. */
  readonly generations: SharedArrayBuffer;
  /** The loads of all threads, and which of them is this one's. */
  readonly loads: SharedArrayBuffer;
  readonly seat: number;
  /** Memory for kept answers, in bytes. */
  readonly keptBytes: number;
  readonly usesSendfile: boolean;
  /** Absent: plain HTTP. */
  readonly tls?: FrontTls | undefined;
  readonly limits: FrontLimits;
}

/** PEM texts of a listener that asks clients for no certificate. */
export interface FrontTls {
  readonly cert: string;
  readonly key: string;
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3';
}

/** The settings that may change while the thread runs. */
export interface FrontLimits {
  /** A client that takes nothing of what waits for it is cut after this, in milliseconds. */
  readonly clientIdleMs: number;
  /**
   * Connections and requests at a time: of the process, and of one client address in this thread. What is beyond goes to the
   * main thread.
   */
  readonly connections: number;
  readonly connectionsPerClient: number;
  readonly requests: number;
  readonly requestsPerClient: number;
  /** Memory of answers that wait for their clients, in bytes: likewise. */
  readonly memoryBytes: number;
  readonly memoryPerClientBytes: number;
}

/** The facts of an encrypted connection that the main thread needs; its own descriptor stays with the front. */
export interface Relayed {
  /** The address of the client. */
  readonly remoteAddress: string | undefined;
  /** One number, 1 from the moment when the front may have the connection back: told before the stream ends. */
  readonly returned: SharedArrayBuffer;
}

/** A connection that goes from one thread to another, by a descriptor of its own. */
export interface MovedConnection {
  /** Of the connection itself, or of a stream to the front, which passes on what is decrypted, or encrypted, there. */
  readonly fd: number;
  readonly relayed?: Relayed | undefined;
  /** The bytes that were read of it. */
  readonly bytes: Uint8Array;
  /** The key of the request, where the bytes are one plain request and nothing else. */
  readonly key: string | undefined;
}

export type ToFront =
  | { readonly kind: 'limits'; readonly limits: FrontLimits }
  /** Another certificate, for connections that are made from now on. */
  | { readonly kind: 'tls'; readonly tls: FrontTls }
  | { readonly kind: 'keep'; readonly key: string; readonly answer: KeptAnswer }
  /** A connection comes back, and idles. */
  | { readonly kind: 'back'; readonly fd: number }
  | { readonly kind: 'close'; readonly drainMs: number };

export type FromFront =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'moved'; readonly moved: MovedConnection }
  | { readonly kind: 'report'; readonly report: FrontReport };

/** How often an answer was given. */
export interface GivenAnswer extends Pick<KeptAnswer, 'status' | 'about' | 'digest'> {
  times: number;
  /** Of these, those that have left whole. */
  whole: number;
}

/** The work of a front since its last report. */
export interface FrontReport {
  /** Members of the log lines of requests that were answered whole, as JSON, each on a line of its own. */
  readonly lines: string;
  /** Requests that were not, with their fields. */
  readonly broken: readonly { readonly level: 'info' | 'warn'; readonly fields: Readonly<Record<string, unknown>> }[];
  readonly tallies: readonly Tally[];
  readonly given: readonly GivenAnswer[];
}
