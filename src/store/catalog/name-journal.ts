import { hash } from 'node:crypto';
import { closeSync, fstatSync, fsync, openSync, read, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { beginningOf, begunAtMsOf, entryOf, lineOf, type NameEntry } from './name-entry.ts';

/** The entries read, and where they end. */
export interface NameBatch {
  readonly entries: readonly NameEntry[];
  /** Position in bytes where the next batch begins. */
  readonly end: number;
}

/** Read at a time: some dozens of lines, which are processed together. */
const readBytes = 16 * 1024;
/** Only a damaged file has longer lines. */
const maxLineBytes = 64 * 1024;
/** More than the first line, and more than most lines. */
const tailBytes = 256;

export interface NameJournalOptions {
  /** Absent: nothing is kept, and there is nothing to read. */
  readonly path: string | undefined;
  /** Receives every failure of the file: the cache continues without it. */
  readonly onFault: (error: unknown) => void;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
}

/**
 * The names of stored content, one line for each change: what remains of the catalog if the catalog is lost. Lines are
 * written at the end of each turn, without waiting; lines truncated by a crash are ignored.
 */
export class NameJournal implements Disposable {
  /** Called when lines have been written. */
  onFlushed: () => void = () => undefined;
  readonly #path: string | undefined;
  readonly #onFault: (error: unknown) => void;
  readonly #now: () => number;
  #file: number | undefined;
  #rewritten: number | undefined;
  #bytes = 0;
  #begunAtMs = 0;
  #lines: string[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #isComplete = true;

  /** Opens or creates the file. Never throws. */
  constructor({ path, onFault, now = Date.now }: NameJournalOptions) {
    this.#path = path;
    this.#now = now;
    this.#onFault = onFault;
    this.#open();
  }

  /** Length of the file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** When the file was begun or rewritten, in milliseconds since 1970; 0: unknown, or it is empty. */
  get begunAtMs(): number {
    return this.#begunAtMs;
  }

  /** Hash of the bytes before a position; `undefined` if they cannot be read, which is reported. */
  tail(end: number): string | undefined {
    if (this.#file === undefined) return undefined;
    try {
      return hash('sha256', bytesBefore(this.#file, { end, length: tailBytes }));
    } catch (error) {
      this.#onFault(error);
      return undefined;
    }
  }

  /** False after a failed write: only a {@link rewrite} makes the file complete again. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Adds an entry, together with others of this turn. */
  add(entry: NameEntry): void {
    if (this.#path === undefined) return;
    this.#lines.push(lineOf(entry));
    this.#flushing ??= setImmediate(() => this.flush());
  }

  /** Writes what {@link add} has deferred. */
  flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#lines.length === 0) return;
    // Ends a line that a failure has truncated, before the next one begins.
    const lines = Buffer.from((this.#isComplete ? '' : '\n') + this.#lines.join(''));
    this.#lines = [];
    if (this.#rewritten !== undefined) this.#append(this.#rewritten, lines);
    const begunAtMs = this.#bytes === 0 ? this.#now() : this.#begunAtMs;
    const written = this.#bytes === 0 ? Buffer.concat([Buffer.from(beginningOf(begunAtMs)), lines]) : lines;
    if (!this.#append(this.#file, written)) return;
    this.#bytes += written.length;
    this.#begunAtMs = begunAtMs;
    this.onFlushed();
  }

  /**
   * Entries from a position to the end of the file, including entries added meanwhile; damaged lines are skipped.
   * @throws Error if it cannot be read
   */
  async *read(from: number): AsyncGenerator<NameBatch> {
    if (this.#path === undefined) return;
    this.flush();
    // The open file, not the one at the path: someone may have removed it together with the catalog.
    if (this.#file === undefined) throw new Error('the journal of names could not be opened');
    const file = this.#file;
    const buffer = Buffer.allocUnsafe(readBytes);
    let rest = Buffer.alloc(0);
    let end = from;
    while (true) {
      const { bytesRead } = await promisify(read)(file, buffer, 0, readBytes, end + rest.length);
      if (bytesRead === 0) return;
      const content = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
      const whole = content.lastIndexOf(0x0a) + 1;
      const entries = content
        .toString('utf8', 0, whole)
        .split('\n')
        .flatMap((line) => entryOf(line) ?? []);
      // Without a line end in sight, this part is not a journal; what follows the next line end may be.
      const taken = whole === 0 && content.length > maxLineBytes ? content.length : whole;
      rest = Buffer.from(content.subarray(taken));
      end += taken;
      if (taken > 0) yield { entries, end };
    }
  }

  /**
   * Rewrites the file from entries with the same meaning in fewer lines, while others are being added. If it fails, the
   * fault is reported and the file is unchanged.
   * @param pages the entries, each true at the moment it is taken
   * @param between waits after each page
   * @param options.after the file begins later than this, in milliseconds since 1970, even if the clock is behind it
   * @throws what `between` throws; the file is unchanged then
   */
  async rewrite(
    pages: Iterable<readonly NameEntry[]>,
    between: () => Promise<void>,
    { after = this.#begunAtMs }: { readonly after?: number } = {},
  ): Promise<boolean> {
    if (this.#path === undefined) return true;
    this.flush();
    const wasComplete = this.#isComplete;
    this.#isComplete = true;
    try {
      const file = openSync(`${this.#path}.new`, 'w+', 0o600);
      this.#rewritten = file;
      const begunAtMs = Math.max(this.#now(), after + 1);
      this.#append(file, Buffer.from(beginningOf(begunAtMs)));
      for (const page of pages) {
        // Later entries about the same thing come later in the file.
        this.flush();
        this.#append(file, Buffer.from(page.map((entry) => lineOf(entry)).join('')));
        if (!this.#isComplete) break;
        await between();
      }
      await promisify(fsync)(file);
      this.flush();
      if (!this.#isComplete) return false;
      renameSync(`${this.#path}.new`, this.#path);
      if (this.#file !== undefined) closeSync(this.#file);
      this.#file = file;
      this.#rewritten = undefined;
      this.#bytes = fstatSync(file).size;
      this.#begunAtMs = begunAtMs;
      return true;
    } catch (error) {
      this.#isComplete &&= wasComplete;
      if (!isSystemError(error)) throw error;
      this.#fault(error);
      return false;
    } finally {
      if (this.#rewritten !== undefined) {
        closeSync(this.#rewritten);
        rmSync(`${this.#path}.new`, { force: true });
      }
      this.#rewritten = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.flush();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): void {
    if (this.#path === undefined) return;
    try {
      this.#file = openSync(this.#path, 'a+', 0o600);
      this.#bytes = fstatSync(this.#file).size;
      if (this.#bytes === 0) return;
      const head = bytesBefore(this.#file, { end: Math.min(this.#bytes, tailBytes), length: tailBytes });
      this.#begunAtMs = begunAtMsOf(head.toString('utf8').split('\n', 1)[0] ?? '');
      // A truncated line is ended as a line of its own, which is ignored.
      const last = bytesBefore(this.#file, { end: this.#bytes, length: 1 });
      if (last[0] !== 0x0a) this.#bytes += writeSync(this.#file, '\n');
    } catch (error) {
      this.#fault(error);
    }
  }

  #append(file: number | undefined, bytes: Buffer): boolean {
    try {
      if (file === undefined) return false;
      if (writeSync(file, bytes) === bytes.length) return true;
      throw new Error('a line could not be written whole');
    } catch (error) {
      this.#fault(error);
      return false;
    }
  }

  #fault(error: unknown): void {
    this.#isComplete = false;
    this.#onFault(error);
  }
}

/** The bytes of a file before a position; fewer where the file is shorter. @throws the system's error */
function bytesBefore(file: number, { end, length }: { readonly end: number; readonly length: number }): Buffer {
  const start = Math.max(0, end - length);
  const bytes = Buffer.alloc(end - start);
  return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, start));
}

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}
