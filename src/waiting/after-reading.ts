/**
 * Runs a function after everything that has arrived by now has been read. After this process was held up (a suspended or busy
 * machine), timers fire before sockets are read, although what the other side has sent meanwhile is not late.
 */
export function afterReading(act: () => void): void {
  setImmediate(() => setImmediate(act));
}
