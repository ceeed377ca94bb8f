/** What is measured side by side; `direct` is the upstream without anything between, `node` a server of Node alone. */
export type ContestantName = 'millpond' | 'nginx' | 'docker-registry' | 'direct' | 'node';

export interface RowOptions {
  readonly contestants: ReadonlySet<ContestantName>;
  readonly repetitions: number;
  /** Length of one measurement of a warm row. */
  readonly seconds: number;
  /** Threads of Millpond and workers of nginx that answer, on as many cores. */
  readonly threads: number;
  /** Folder that Millpond writes a CPU profile to when it ends. */
  readonly profileDirectory: string | undefined;
}

/** A column of a row's table. `undefined`: this contestant has no such figure. */
export interface Figures {
  readonly contestant: ContestantName;
  readonly values: Readonly<Record<string, number | undefined>>;
}

export interface Check {
  readonly target: string;
  readonly measured: number;
  readonly reached: boolean;
  /** What else there is to say of it, e.g. the same ratio by CPU time. */
  readonly remark?: string;
}

export interface RowResult {
  readonly name: string;
  readonly work: string;
  readonly repetitions: number;
  readonly figures: readonly Figures[];
  readonly checks: readonly Check[];
}

/** One line of the table of targets. */
export interface Row {
  readonly name: string;
  readonly work: string;
  measure(options: RowOptions): Promise<RowResult>;
}

export function atLeast(target: string, measured: number, limit: number, remark?: string): Check {
  return { target: `${target} ≥ ${limit}`, measured, reached: measured >= limit, remark };
}

export function atMost(target: string, measured: number, limit: number, remark?: string): Check {
  return { target: `${target} ≤ ${limit}`, measured, reached: measured <= limit, remark };
}
