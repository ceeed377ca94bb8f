/** Whether something that was read is an object, and no list. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Parses JSON that may hold secrets. @throws Error that quotes nothing of the text, as the parser's own would */
export function parseSecretJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error('the text is not JSON');
  }
}
