import { constants, openSync, write, writeSync } from 'node:fs';
import process from 'node:process';

/** This much is written at once; less waits for more. */
const batchCharacters = 8 * 1024;
/** Maximum delay of a line, in milliseconds. */
const gatherMs = 1000;
/** Maximum backlog for a reader that does not read. */
const mostCharacters = 1024 * 1024;
/** Pause before a blocked reader is tried again. */
const againAfterMs = 10;
/** How long a blocked reader can delay the end of the process. */
const lastWordsMs = 1000;
const newline = 0x0a;

export interface LogOutputOptions {
  /** `text`: lines are converted from JSON to text for people. */
  readonly format: 'json' | 'text';
  /** Called, when lines can be written again, with the number lost since the start. */
  readonly onRecovery: (lost: number) => void;
}

/**
 * Writes lines to standard output (a file, pipe or terminal) in batches and in the background. A line that cannot be
 * written is counted and dropped: neither a full disk nor a missing or blocked reader delays the process or its end.
 * Whether the next line can be written is found out by trying.
 */
export class LogOutput {
  readonly #options: LogOutputOptions;
  #waiting = '';
  /** The rest of the batch that is being written. */
  #rest: Buffer = Buffer.alloc(0);
  #state: 'idle' | 'writing' | 'waiting for the reader' = 'idle';
  /** Whether the waiting lines are to be written as soon as the previous batch is. */
  #isDue = false;
  #timer: NodeJS.Timeout | undefined;
  #fd = 1;
  #isInUse = false;
  /** Whether the last written byte is in the middle of a line. */
  #isAmidLine = false;
  #lost = 0;
  #told = 0;

  constructor(options: LogOutputOptions) {
    this.#options = options;
  }

  /** Lines that could not be written since the start. */
  get lost(): number {
    return this.#lost;
  }

  /** @param line JSON, with its line end */
  write(line: string): void {
    if (!this.#isInUse) {
      this.#isInUse = true;
      this.#fd = standardOutput();
      process.once('exit', () => this.#finish());
    }
    if (this.#waiting.length > mostCharacters) {
      this.#lost += 1;
      return;
    }
    this.#waiting += this.#options.format === 'text' ? asText(line) : line;
    if (this.#waiting.length >= batchCharacters) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), gatherMs).unref();
  }

  /** Starts writing what waits, without blocking. */
  flush(): void {
    this.#isDue = true;
    if (this.#state !== 'idle') return;
    this.#take();
    if (this.#rest.length === 0) return;
    this.#state = 'writing';
    write(this.#fd, this.#rest, (error, written) => {
      this.#state = 'idle';
      if (this.#settle(error, written) === 'no room') {
        this.#state = 'waiting for the reader';
        setTimeout(() => {
          this.#state = 'idle';
          this.flush();
        }, againAfterMs).unref();
      } else if (this.#rest.length > 0 || this.#isDue) this.flush();
    });
  }

  /** Assembles a batch from what waits, after the previous one is done. */
  #take(): void {
    if (this.#rest.length > 0) return;
    this.#isDue = false;
    if (this.#waiting === '') return;
    // The rest of a line whose end was lost must not corrupt the next one.
    this.#rest = Buffer.from(this.#isAmidLine ? `\n${this.#waiting}` : this.#waiting);
    this.#waiting = '';
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Records the result of a write of `#rest`. */
  #settle(error: NodeJS.ErrnoException | null, written: number): 'no room' | 'settled' {
    if (error?.code === 'EAGAIN') return 'no room';
    if (error !== null) {
      // The line end of a line that lacks only that comes with the next batch.
      for (let at = this.#rest.indexOf(newline, 1); at >= 0; at = this.#rest.indexOf(newline, at + 1)) this.#lost += 1;
      this.#rest = Buffer.alloc(0);
      return 'settled';
    }
    if (written > 0) this.#isAmidLine = this.#rest[written - 1] !== newline;
    this.#rest = this.#rest.subarray(written);
    if (this.#rest.length === 0 && this.#told !== this.#lost) {
      this.#told = this.#lost;
      this.#options.onRecovery(this.#lost);
    }
    return 'settled';
  }

  /** Writes the rest before the process ends; nothing can run in the background any more. */
  #finish(): void {
    // A thread has this batch and ends before the process does.
    if (this.#state === 'writing') this.#rest = Buffer.alloc(0);
    const deadline = performance.now() + lastWordsMs;
    const pause = new Int32Array(new SharedArrayBuffer(4));
    for (this.#take(); this.#rest.length > 0 && performance.now() < deadline; this.#take()) {
      if (this.#settle(...this.#tryToWrite()) === 'no room') Atomics.wait(pause, 0, 0, againAfterMs);
    }
  }

  #tryToWrite(): [error: NodeJS.ErrnoException | null, written: number] {
    try {
      return [null, writeSync(this.#fd, this.#rest)];
    } catch (error) {
      return [error as NodeJS.ErrnoException, 0];
    }
  }
}

/** Standard output, made to refuse what it has no room for instead of blocking the writer. */
function standardOutput(): number {
  // Node does so for pipes and sockets only; of the others, only a terminal stopped by Ctrl-S can block.
  if (!process.stdout.isTTY) return 1;
  try {
    return openSync('/dev/fd/1', constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK);
  } catch {
    // It may belong to another user.
    return 1;
  }
}

function asText(line: string): string {
  const { time, level, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const rest = Object.entries(fields).map(
    ([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  return `${String(time)} ${String(level).toUpperCase().padEnd(5)} ${String(msg)}${rest.join('')}\n`;
}
