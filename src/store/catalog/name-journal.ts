import { closeSync, fstatSync, fsync, openSync, read, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { promisify } from 'node:util';
import { entryOf, lineOf, type NameEntry } from './name-entry.ts';

/** Entries read, and up to where. */
export interface NameBatch {
  readonly entries: readonly NameEntry[];
  /** Bytes from the beginning of the file, where the next batch begins. */
  readonly end: number;
}

/** Read in one go: some dozens of lines, which are taken in together. */
const readBytes = 16 * 1024;
/** A line is longer than this only where the file is damaged. */
const maxLineBytes = 64 * 1024;

export interface NameJournalOptions {
  /** Absent: nothing is kept, and there is nothing to read. */
  readonly path: string | undefined;
  /** Told of every failure of the file: the cache goes on without it. */
  readonly onFault: (error: unknown) => void;
}

/**
 * The names of what is stored, one line after the other as they come: what is left of the catalog when the catalog is
 * lost. Lines are written at the end of each turn and never waited for; what a crash cuts short is ignored when read.
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

  /** Opens the file, or makes it. Never throws. */
  constructor({ path, onFault }: NameJournalOptions) {
    this.#path = path;
    this.#onFault = onFault;
    this.#open();
  }

  /** Length of the file. */
  get bytes(): number {
    return this.#bytes;
  }

  /** False when a write has failed: only a {@link rewrite} makes the file whole again. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Adds an entry, with what else comes in this turn. */
  add(entry: NameEntry): void {
    if (this.#path === undefined) return;
    this.#lines.push(lineOf(entry));
    this.#flushing ??= setImmediate(() => this.flush());
  }

  /** Writes now what {@link add} has put off. */
  flush(): void {
    clearImmediate(this.#flushing);
    this.#flushing = undefined;
    if (this.#lines.length === 0) return;
    // What a failure has cut short ends before the next line begins.
    const lines = Buffer.from((this.#isComplete ? '' : '\n') + this.#lines.join(''));
    this.#lines = [];
    if (this.#rewritten !== undefined) this.#append(this.#rewritten, lines);
    if (this.#append(this.#file, lines)) this.#bytes += lines.length;
  }

  /**
   * Entries from a position on, to the end of the file as it is when it is reached; lines that are damaged are left out.
   * @throws Error where it cannot be read
   */
  async *read(from: number): AsyncGenerator<NameBatch> {
    if (this.#path === undefined) return;
    this.flush();
    // What was opened, not what is at the path: somebody may have removed it together with the catalog.
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
      // Without a line end in sight this is no journal any more: what comes after the next one may be.
      const taken = whole === 0 && content.length > maxLineBytes ? content.length : whole;
      rest = Buffer.from(content.subarray(taken));
      end += taken;
      if (taken > 0) yield { entries, end };
    }
  }

  /**
   * Writes the file anew from entries that say the same in fewer lines, while others are being added. Where it fails, the
   * fault is told and the file stays as it is.
   * @param pages the entries, of which each is true when it is taken
   * @param between waits after each page @throws what it throws; then the file stays as it is
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
        // What comes later about the same thing comes later in the file.
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
      // What a crash has cut short is a line of its own, and no line at all.
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
