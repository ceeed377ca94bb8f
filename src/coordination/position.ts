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
  /** Changes that the others have not been told of yet. */
  readonly untold: readonly string[];
}

/** Reads what an earlier run has noted. @returns `undefined` for what is none: then nothing has been heard */
export function readPosition(text: string): Position | undefined {
  try {
    const found = JSON.parse(text) as Partial<Position> | null;
    const { epoch, seq, changedAt, atMs, unread = [], untold = [] } = found ?? {};
    const areNumbers = [seq, changedAt, atMs].every((value) => typeof value === 'number');
    const areLists = Array.isArray(unread) && Array.isArray(untold);
    if (!areNumbers || !areLists) return undefined;
    const areTexts = [epoch, ...unread, ...untold].every((value) => typeof value === 'string');
    return areTexts ? ({ epoch, seq, changedAt, atMs, unread, untold } as Position) : undefined;
  } catch {
    return undefined;
  }
}
