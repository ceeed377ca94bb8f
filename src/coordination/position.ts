/** How far a replica has processed messages and changes. */
export interface Position {
  readonly epoch: string;
  /** Of the last message. */
  readonly seq: number;
  /** Of the last change. */
  readonly changedAt: number;
  /** The time of that change, by Redis's clock. */
  readonly atMs: number;
  /** Earlier changes that it could not read. */
  readonly unread: readonly string[];
}

/** A change that has not been announced to the others, as JSON, and sealed if that has been tried. */
export interface Untold {
  readonly change: string;
  readonly sealed?: string | undefined;
}

/** Parses the note of an earlier run. @returns `undefined` if it is invalid: then nothing has been processed */
export function readPosition(text: string): Position | undefined {
  try {
    const found = JSON.parse(text) as Partial<Position> | null;
    const { epoch, seq, changedAt, atMs, unread = [] } = found ?? {};
    const areNumbers = [seq, changedAt, atMs].every((value) => typeof value === 'number');
    const areTexts = Array.isArray(unread) && [epoch, ...unread].every((value) => typeof value === 'string');
    return areNumbers && areTexts ? ({ epoch, seq, changedAt, atMs, unread } as Position) : undefined;
  } catch {
    return undefined;
  }
}

/** Parses the unannounced changes of an earlier run; none if the note is invalid. */
export function readUntold(text: string): Untold[] {
  try {
    const found = JSON.parse(text) as Untold[];
    for (const { change } of found) JSON.parse(change);
    return found;
  } catch {
    return [];
  }
}
