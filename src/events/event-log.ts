import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { LoggedEvent, MillpondEvent } from './event.ts';

/** Events of one file. */
const perFile = 1_000;
/** The latest events are kept in memory as well. */
const maxInMemory = 1_000;
/** Most events that wait to be written: beyond it the disk does not take them, and they are in memory only. */
const maxWaiting = 10_000;

/** Longest type of an event, in characters: a manifest may give itself one of megabytes, and many events are in memory. */
const maxTypeLength = 255;

export interface EventLogOptions {
  /** A folder of its own. */
  readonly folder: string;
  /** About how many of the latest events are kept; read each time. */
  readonly keep: () => number;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Called when the disk does not take events. */
  readonly onFault: (error: unknown) => void;
}

/**
 * The latest events, in files of a folder: what has been written is there after a restart, and events are numbered on. An
 * event is written within a moment after it has happened; a kill in between loses it.
 */
export class EventLog implements AsyncDisposable {
  /** Names this log: another one begins at 1 again. */
  readonly id: string;
  readonly #options: EventLogOptions;
  /** First numbers of the files, ascending. */
  readonly #files: number[];
  readonly #memory: LoggedEvent[] = [];
  #waiting: LoggedEvent[] = [];
  #last: number;
  #written = 0;
  /** A run begins a file of its own: the last line of the one before may be cut. */
  #isFirst = true;
  #writing: Promise<void> | undefined;
  /** The latest event that is written, or that the disk does not take. */
  #settled: number;
  /** Called with the next event. */
  readonly #sleepers = new Set<() => void>();

  private constructor(options: EventLogOptions, state: { id: string; files: number[]; last: number }) {
    this.#options = options;
    this.id = state.id;
    this.#files = state.files;
    this.#last = state.last;
    this.#settled = state.last;
  }

  /** Goes on with the log of a folder, or begins one. A folder that cannot be read or written is one in memory. */
  static async open(options: EventLogOptions): Promise<EventLog> {
    const { folder, onFault } = options;
    const fresh = { id: randomBytes(8).toString('hex'), files: [], last: 0 };
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const names = await readdir(folder);
      const id = names.includes('id') ? (await readFile(join(folder, 'id'), 'utf8')).trim() : undefined;
      if (id === undefined || !/^[0-9a-f]{16}$/.test(id)) {
        for (const name of names) await rm(join(folder, name), { force: true });
        await writeFile(join(folder, 'id'), `${fresh.id}\n`, { mode: 0o600 });
        return new EventLog(options, fresh);
      }
      const files = names.flatMap((name) => (/^\d+\.jsonl$/.test(name) ? [Number.parseInt(name, 10)] : []));
      files.sort((one, other) => one - other);
      const newest = files.at(-1);
      const events = newest === undefined ? [] : await eventsIn(folder, newest);
      const last = events.at(-1)?.number ?? (newest === undefined ? 0 : newest - 1);
      return new EventLog(options, { id, files, last });
    } catch (error) {
      onFault(error);
      return new EventLog(options, fresh);
    }
  }

  /**
   * The number of the latest event that a reader may have been given; 0: there was none. Events behind it are not written yet: a
   * kill would let others have their numbers.
   */
  get last(): number {
    return this.#settled;
  }

  /** Notes an event. Never waits, and never throws. */
  add(event: MillpondEvent): void {
    this.#last += 1;
    const { mediaType, artifactType } = event;
    const types = {
      ...(mediaType && { mediaType: short(mediaType) }),
      ...(artifactType && { artifactType: short(artifactType) }),
    };
    const logged: LoggedEvent = { number: this.#last, atMs: this.#options.now(), ...event, ...types };
    this.#memory.push(logged);
    this.#trim();
    if (this.#waiting.length < maxWaiting) this.#waiting.push(logged);
    this.#writing ??= this.#write();
  }

  /** The events behind a number that are written, at most so many. @throws Error of the file system */
  async after(number: number, limit: number): Promise<readonly LoggedEvent[]> {
    if (number + limit > this.#settled) await this.#writing;
    return (await this.#after(number, limit)).filter((event) => event.number <= this.#settled);
  }

  async #after(number: number, limit: number): Promise<readonly LoggedEvent[]> {
    const inMemory = this.#memory[0]?.number ?? this.#last + 1;
    if (number + 1 >= inMemory) {
      const from = number + 1 - inMemory;
      return this.#memory.slice(from, from + limit);
    }
    const found: LoggedEvent[] = [];
    for (const [index, first] of this.#files.entries()) {
      const next = this.#files[index + 1];
      if (next !== undefined && next <= number + 1) continue;
      for (const event of await eventsIn(this.#options.folder, first)) {
        if (event.number > number && event.number < inMemory && found.length < limit) found.push(event);
      }
      if (found.length >= limit) return found;
    }
    return [...found, ...this.#memory.slice(0, limit - found.length)];
  }

  /** Resolves when there is an event behind a number, or the signal is aborted. */
  async news(number: number, signal: AbortSignal): Promise<void> {
    if (this.#settled > number || signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    // One promise for all who wait would keep what each of them has hung on it until the next event.
    this.#sleepers.add(wake);
    signal.addEventListener('abort', wake, { once: true });
    await promise;
    this.#sleepers.delete(wake);
    signal.removeEventListener('abort', wake);
  }

  /** Resolves when all events so far have been written, as far as the disk takes them. */
  async flush(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
  }

  /** Events that are not in a file yet stay in memory, as far as the disk takes them at all. */
  #trim(): void {
    while (this.#memory.length > maxInMemory) {
      const isWritten = this.#memory[0]!.number <= this.#written;
      if (!isWritten && this.#memory.length <= maxWaiting) return;
      this.#memory.shift();
    }
  }

  async #write(): Promise<void> {
    // Events of the same moment are written together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#waiting.length > 0) {
      const events = this.#waiting;
      this.#waiting = [];
      try {
        await this.#append(events);
      } catch (error) {
        this.#options.onFault(error);
      }
      this.#settle(events.at(-1)!.number);
    }
    this.#settle(this.#last);
    this.#writing = undefined;
  }

  #settle(number: number): void {
    this.#settled = number;
    for (const wake of this.#sleepers) wake();
  }

  async #append(events: readonly LoggedEvent[]): Promise<void> {
    const { folder, keep } = this.#options;
    const [first] = events;
    let file = this.#files.at(-1);
    const isNew = file === undefined || first!.number >= file + perFile || this.#isFirst;
    if (isNew) file = first!.number;
    this.#isFirst = false;
    const lines = events.map((event) => `${JSON.stringify(event)}\n`).join('');
    await appendFile(join(folder, `${file}.jsonl`), lines, { mode: 0o600 });
    if (isNew) this.#files.push(file!);
    this.#written = events.at(-1)!.number;
    this.#trim();
    while (this.#files.length > 1 && this.#files[1]! <= this.#last - keep()) {
      await rm(join(folder, `${this.#files.shift()}.jsonl`), { force: true });
    }
  }
}

/** The events of a file; lines that cannot be read are left out, and a file that has been removed meanwhile has none. */
async function eventsIn(folder: string, first: number): Promise<LoggedEvent[]> {
  const text = await readFile(join(folder, `${first}.jsonl`), 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  });
  return text.split('\n').flatMap((line) => {
    try {
      return line === '' ? [] : [JSON.parse(line) as LoggedEvent];
    } catch {
      return [];
    }
  });
}

/** The beginning of a long text. A part of a string would keep all of it in memory: this is a copy. */
function short(text: string): string {
  return text.length <= maxTypeLength ? text : Buffer.from(text.slice(0, maxTypeLength)).toString();
}
