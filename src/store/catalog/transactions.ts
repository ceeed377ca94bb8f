import type { DatabaseSync } from 'node:sqlite';

/** A killed process loses the writes of this time, in milliseconds; the journal of names and the files have most of them, too. */
const commitAfterMs = 5;
/** A commit waits no longer than this for the end of a checkpoint. */
const mostHeldMs = 100;
/** Works in one transaction. */
const mostApplied = 500;

export interface TransactionsOptions {
  /** The connection in use. */
  readonly connection: () => DatabaseSync;
  /** Whether a commit should wait for a moment; absent: never. */
  readonly isHeld?: () => boolean;
  /** Called after a commit. */
  readonly onCommitted?: () => void;
  /** Called when ids assigned within a transaction are gone. */
  readonly onRolledBack: () => void;
  /** Receives what a work that failed by itself has thrown. */
  readonly onFault: (error: unknown) => void;
}

/** Gathers what is written within a few milliseconds into one transaction. */
export class Transactions {
  /** Called within a transaction, when all works have run that were to be written until then. */
  beforeCommit: () => void = () => undefined;
  readonly #options: TransactionsOptions;
  /** Not applied yet. */
  #waiting: (() => void)[] = [];
  /** Applied in the transaction that is open, and to be repeated if that fails. */
  #applied: (() => void)[] = [];
  #applying: NodeJS.Immediate | undefined;
  #committing: NodeJS.Timeout | undefined;
  #isWriting = false;

  constructor(options: TransactionsOptions) {
    this.#options = options;
  }

  /** Whether a work is running. */
  get isWriting(): boolean {
    return this.#isWriting;
  }

  /** Runs work at the end of this turn, and commits it a moment later. Nested work runs immediately. Never throws. */
  add(work: () => void): void {
    if (this.#isWriting) {
      work();
      return;
    }
    this.#waiting.push(work);
    this.#applying ??= setImmediate(() => this.apply());
  }

  /** Runs what waits, before a read. */
  apply({ mayCommit = true } = {}): void {
    if (this.#isWriting) return;
    clearImmediate(this.#applying);
    this.#applying = undefined;
    if (this.#waiting.length === 0) return;
    const works = this.#waiting;
    this.#waiting = [];
    const isOpen = this.#applied.length > 0;
    this.#applied.push(...works);
    try {
      if (!isOpen) this.#options.connection().exec('BEGIN IMMEDIATE');
      this.#within(() => {
        for (const work of works) work();
      });
    } catch {
      this.#repeat();
      return;
    }
    // Not started again by later work: nothing waits longer than that.
    this.#committing ??= setTimeout(() => this.#commitSoon(performance.now()), commitAfterMs);
    if (mayCommit && this.#applied.length >= mostApplied) this.commit();
  }

  #commitSoon(dueAtMs: number): void {
    if (this.#options.isHeld?.() === true && performance.now() - dueAtMs < mostHeldMs) {
      this.#committing = setTimeout(() => this.#commitSoon(dueAtMs), commitAfterMs);
    } else this.commit();
  }

  /** Runs what waits and ends the open transaction. */
  commit(): void {
    clearTimeout(this.#committing);
    this.#committing = undefined;
    this.apply({ mayCommit: false });
    if (this.#applied.length === 0) return;
    clearTimeout(this.#committing);
    this.#committing = undefined;
    try {
      this.#within(this.beforeCommit);
      this.#options.connection().exec('COMMIT');
      this.#applied = [];
    } catch {
      this.#repeat();
    }
    this.#options.onCommitted?.();
  }

  /** Runs work in a transaction of its own. @throws what it throws, what SQLite throws; none of it is applied then */
  now(work: () => void): void {
    this.commit();
    this.#alone(() => {
      work();
      this.beforeCommit();
    });
    this.#options.onCommitted?.();
  }

  /** The connection is about to be replaced: what the old file will never have goes to the new one. */
  keep(): void {
    clearTimeout(this.#committing);
    this.#committing = undefined;
    this.#waiting.unshift(...this.#applied);
    this.#applied = [];
  }

  /** Something of the open transaction has failed. It may be one of its works: the others must not be lost with it. */
  #repeat(): void {
    clearTimeout(this.#committing);
    this.#committing = undefined;
    const works = this.#applied;
    this.#applied = [];
    this.#rollBack();
    for (const work of works) {
      try {
        this.#alone(work);
      } catch (error) {
        this.#options.onFault(error);
      }
    }
  }

  #alone(work: () => void): void {
    const connection = this.#options.connection();
    connection.exec('BEGIN IMMEDIATE');
    try {
      this.#within(work);
      connection.exec('COMMIT');
    } catch (error) {
      this.#rollBack();
      throw error;
    }
  }

  #within(work: () => void): void {
    this.#isWriting = true;
    try {
      work();
    } finally {
      this.#isWriting = false;
    }
  }

  /** A full disk may have rolled the transaction back already, and an id assigned inside it is gone. */
  #rollBack(): void {
    this.#options.onRolledBack();
    const connection = this.#options.connection();
    if (connection.isOpen && connection.isTransaction) connection.exec('ROLLBACK');
  }
}
