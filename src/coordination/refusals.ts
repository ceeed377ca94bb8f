/** A failure as a clause about Redis; what a library says may hold an address, never a password. */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return 'has failed';
  const { code } = error as NodeJS.ErrnoException;
  if (code !== undefined) return `cannot be reached (${code})`;
  const refusal = codeOf(error);
  return refusal === undefined ? 'cannot be reached' : `refuses (${refusal})`;
}

/** The word with which Redis begins what it refuses; before version 7 what refuses a script's command is in the middle. */
export function codeOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (/The user executing the script|ACL failure in script/.test(error.message)) return 'NOPERM';
  return (/: -([A-Z]+) /.exec(error.message) ?? /^([A-Z]+) /.exec(error.message))?.[1];
}

/** Whether Redis does not let its user do something, whatever it is done to. */
export function isForbidden(error: unknown): boolean {
  return codeOf(error) === 'NOPERM' || (error instanceof Error && /unknown (redis )?command/i.test(error.message));
}

/** Why a connection was not made or not let in, as a clause about Redis; `undefined` where an error does not say. */
export function describeLogin(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const [refusal] = /\b(?:WRONGPASS|NOAUTH)\b/.exec(error.message) ?? [];
  if (refusal !== undefined) return `refuses our password (${refusal})`;
  return 'code' in error ? describe(error) : undefined;
}
