/** Work of a command that ends with Ctrl-C, SIGTERM or a closed terminal. */
export interface Interruption extends Disposable {
  /** Aborted by the first of these signals; the second one ends the process at once. */
  readonly signal: AbortSignal;
}

/** Handles the process's signals until it is disposed. */
export function interruption(): Interruption {
  const abort = new AbortController();
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const taken = (): void => {
    if (abort.signal.aborted) process.exit(1);
    abort.abort(new Error('interrupted'));
  };
  for (const name of names) process.on(name, taken);
  return {
    signal: abort.signal,
    [Symbol.dispose]() {
      for (const name of names) process.removeListener(name, taken);
    },
  };
}
