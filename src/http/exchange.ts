import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import type { Guest } from '../access/access-control.ts';
import type { Caller } from '../access/caller.ts';
import type { Grant } from '../access/grants.ts';
import type { Outcome } from '../mirror/outcome.ts';
import type { RegistryRequest } from '../oci/request.ts';
import { onlySelection } from '../upstream/link.ts';
import type { Selection } from '../upstream/selection.ts';
import type { Ticket } from './admission.ts';

/** The state of one request of the registry API, which its steps hand on in `ctx.state.exchange`. */
export class Exchange {
  readonly startedAtMs = performance.now();
  /** The room that the request has in this process. */
  readonly ticket: Ticket;
  /** The request's path and its query (without `?`), both as they were sent. */
  readonly path: string;
  readonly query: string;
  /** The parsed request, once the path has been read. */
  request: RegistryRequest | undefined;
  /** Whom it was asked of, once that has been chosen. */
  selection: Selection | undefined;
  /** The repository, where it is one that lives here alone. */
  hosted: string | undefined;
  /** Whether only a part of a blob is asked for. */
  isRanged = false;
  /** Whether it is one of another replica, or says so. */
  isPeer = false;
  /** The caller; `undefined` where callers are not distinguished. */
  caller: Caller | undefined;
  /** The scopes of its token; `undefined`: it has shown none. */
  grants: readonly Grant[] | undefined;
  /** Credentials that the caller has shown for one upstream. */
  guest: Guest | undefined;
  /** Whether what the caller has shown would still be accepted: for answers that go on for long. */
  isCurrent: () => boolean = () => true;
  /** Until when what the caller has shown may be taken for granted, wall clock in milliseconds; `undefined`: not at all. */
  heldUntilMs: number | undefined;
  /**
   * On what it rests that the caller may have the answer, in this turn of the event loop, so that the same credentials may
   * have it again; `undefined`: they are looked at each time.
   */
  right: () => Right | undefined = () => undefined;
  /** Where clients of this mirror get tokens. */
  realm = '';
  outcome: Outcome | undefined;
  /** Bytes of the body handed to the socket. */
  sentBytes = 0;
  /** Why the answer is an error, or was cut short after its headers. */
  failure: unknown;
  /** The mirrors that the request has come through, as `CDN-Loop` names them. */
  through: string | undefined;
  readonly #response: ServerResponse;
  readonly #answerMs: number;
  #id: string | undefined;
  #gone: AbortController | undefined;
  #signal: AbortSignal | undefined;

  constructor(url: string, options: { response: ServerResponse; answerMs: number; ticket: Ticket }) {
    const { response, answerMs, ticket } = options;
    const question = url.indexOf('?');
    this.path = question === -1 ? url : url.slice(0, question);
    this.query = question === -1 ? '' : url.slice(question + 1);
    this.ticket = ticket;
    this.#response = response;
    this.#answerMs = answerMs;
  }

  /** Names the request in the log and in a generic error. */
  get id(): string {
    this.#id ??= randomUUID();
    return this.#id;
  }

  /** The part of the query that chooses the upstream. */
  get selecting(): string {
    return onlySelection(this.query);
  }

  /** Whether the client resolved the name itself and named the registry by `ns`: it asks there for what it does not get. */
  get canFallBack(): boolean {
    return this.selection?.namedBy === 'ns';
  }

  get isGone(): boolean {
    return this.#gone?.signal.aborted ?? this.#response.destroyed;
  }

  /** Aborted when the client leaves. Made when first read: most answers never wait. */
  get gone(): AbortSignal {
    if (this.#gone === undefined) {
      const gone = new AbortController();
      this.#gone = gone;
      if (this.#response.destroyed) gone.abort(new ClientGone());
      else {
        this.#response.once('close', () => {
          // Nothing waits for the end of an answer that has been sent.
          if (!this.#response.writableFinished) gone.abort(new ClientGone());
        });
      }
    }
    return this.#gone.signal;
  }

  /** Aborted when the client leaves, and when it has waited for headers as long as it may have to. */
  get signal(): AbortSignal {
    if (this.#signal === undefined) {
      const leftMs = Math.max(0, this.#answerMs - (performance.now() - this.startedAtMs));
      const { gone } = this;
      const ended = new AbortController();
      const timer = setTimeout(() => {
        ended.abort(new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
      }, leftMs).unref();
      // AbortSignal.any and AbortSignal.timeout would stay in memory until the time is over.
      this.#response.once('close', () => clearTimeout(timer));
      if (gone.aborted) ended.abort(gone.reason);
      else gone.addEventListener('abort', () => ended.abort(gone.reason), { once: true });
      this.#signal = ended.signal;
    }
    return this.#signal;
  }
}

/** On what the right of a caller rests. */
export interface Right {
  /** Named by the functions of `oci/facts.ts`. */
  readonly facts: readonly string[];
  /** Wall clock in milliseconds; absent: without end. */
  readonly untilMs?: number;
}

/** The client has disconnected. */
export class ClientGone extends Error {
  override readonly name = 'ClientGone';

  constructor() {
    super('the client has left');
  }
}
