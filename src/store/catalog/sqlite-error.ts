/** The primary code of a SQLite error; `undefined` for any other error. */
export function sqliteCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number'
    ? error.errcode & 0xff
    : undefined;
}

/** Whether another connection has the file. */
export function isLocked(error: unknown): boolean {
  return sqliteCode(error) === 5 || sqliteCode(error) === 6;
}

/** Whether the file is damaged: SQLITE_CORRUPT and SQLITE_NOTADB. */
export function isBroken(error: unknown): boolean {
  return sqliteCode(error) === 11 || sqliteCode(error) === 26;
}

/** Whether a table or column in a statement does not exist: SQLITE_ERROR. */
export function isOfOtherTables(error: unknown): boolean {
  return sqliteCode(error) === 1;
}
