import { closeSync, fstatSync, fsync, openSync, read, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { entryOf, lineOf, type NameEntry } from './name-entry.ts';

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

export interface NameJournalOptions {
  /** Absent: nothing is kept, and there is nothing to read. */
  readonly path: string | undefined;
  /** Receives every failure of the file: the cache continues without it. */
  readonly onFault: (error: unknown) => void;
}

/**
 * The names of stored content, one line for each change: what remains of the catalog if the catalog is lost. Lines are
 * written at the end of each turn, without waiting; lines truncated by a crash are ignored.
 */
export class NameJournal implements Disposable {
  readonly #path: string | undefined;
  readonly #onFault: (error: unknown) => void;
  #file: number | undefined;
  #rewritten: number | undefined;
  #bytes = 0;
  #lines: string[] = [];
  #flushing: NodeJS.Immediate | undefined;
  #isComplete = true;

  /** Opens or creates the file. Never throws. */
  constructor({ path, onFault }: NameJournalOptions) {
    this.#path = path;
    this.#onFault = onFault;
    this.#open();
  }

  /** Length of the file. */
  get bytes(): number {
    return this.#bytes;
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
    if (this.#append(this.#file, lines)) this.#bytes += lines.length;
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
   * @param between waits after each page @throws what it throws; the file is unchanged then
   */
  async rewrite(pages: Iterable<readonly NameEntry[]>, between: () => Promise<void>): Promise<boolean> {
    if (this.#path === undefined) return true;
    this.flush();
    const wasComplete = this.#isComplete;
    this.#isComplete = true;
    try {
      const file = openSync(`${this.#path}.new`, 'w+', 0o600);
      this.#rewritten = file;
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
      const last = Buffer.alloc(1);
      // A truncated line is ended as a line of its own, which is ignored.
      if (this.#bytes === 0) return;
      readSync(this.#file, last, 0, 1, this.#bytes - 1);
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

function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}
