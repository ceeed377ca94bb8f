import { StatementSync } from 'node:sqlite';

type Method = 'run' | 'get' | 'all';

/** Counts the rows that all databases of this process read and write, by turns of the event loop. */
export class RowsPerTurn implements Disposable {
  /** The most rows of one turn so far. */
  most = 0;
  #rows = 0;
  #turn: NodeJS.Immediate;
  readonly #originals = new Map<Method, (...values: never[]) => unknown>();

  constructor() {
    for (const method of ['run', 'get', 'all'] as const) this.#count(method);
    const next = (): void => {
      this.#rows = 0;
      this.#turn = setImmediate(next);
    };
    this.#turn = setImmediate(next);
  }

  [Symbol.dispose](): void {
    clearImmediate(this.#turn);
    for (const [method, original] of this.#originals) Object.assign(StatementSync.prototype, { [method]: original });
  }

  #count(method: Method): void {
    const original = StatementSync.prototype[method] as (...values: never[]) => unknown;
    const counted = (rows: number): void => {
      this.#rows += rows;
      this.most = Math.max(this.most, this.#rows);
    };
    this.#originals.set(method, original);
    Object.assign(StatementSync.prototype, {
      [method](this: StatementSync, ...values: never[]): unknown {
        const result = original.apply(this, values);
        counted(rowsOf(result));
        return result;
      },
    });
  }
}

function rowsOf(result: unknown): number {
  if (Array.isArray(result)) return result.length;
  const changes = (result as { changes?: number } | undefined)?.changes;
  return Math.max(1, changes ?? 1);
}
