/** How far a replica has heard the others. */
export interface Position {
  readonly epoch: string;
  /** Of the last message. */
  readonly seq: number;
  /** Of the last change. */
  readonly changedAt: number;
  /** When that was, by Redis's clock. */
  readonly atMs: number;
  /** Which earlier ones it could not read. */
  readonly unread: readonly string[];
}

/** A change that the others have not been told of yet, as JSON, and as it was sealed where that has been tried. */
export interface Untold {
  readonly change: string;
  readonly sealed?: string | undefined;
}

/** Reads what an earlier run has noted. @returns `undefined` for what is none: then nothing has been heard */
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

/** Reads what an earlier run could not tell; nothing of what is none. */
export function readUntold(text: string): Untold[] {
  try {
    const found = JSON.parse(text) as Untold[];
    for (const { change } of found) JSON.parse(change);
    return found;
  } catch {
    return [];
  }
}
