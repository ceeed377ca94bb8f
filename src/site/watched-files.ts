import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Condition, ConditionCode } from '../http/operator-routes.ts';
import type { Logger } from '../telemetry/logger.ts';
import { type CertificateStatus, certificateIn, expiryConditions } from './certificates.ts';
import { described } from './described.ts';

/** How often the files are looked at. */
const lookEveryMs = 2_000;
/** Looking at them takes at most this share of the time, however many they are. */
const busyShare = 1 / 20;

/**
 * A file that has changed within this time may change again and look the same: file systems give times of a few
 * milliseconds, or of two seconds.
 */
const youngMs = 2_500;
/** A larger file is not one of the files that are taken, but a program that makes one: it is not read to be compared. */
const mostComparedBytes = 1024 * 1024;

/** The texts of the files of one purpose, by key. */
export type FileTexts = Readonly<Record<string, string>>;

/** Files of one purpose, which are taken together: a certificate and its key. */
export interface FileUse {
  /** Their purpose, unique in the group. */
  readonly name: string;
  /** Paths by the key that names them, such as `tls.certFile`. None: what `take` looks at is no file. */
  readonly files: FileTexts;
  /** Paths by which a change is noticed, beside the files: they need not exist, and `take` reads them itself. */
  readonly looksAt?: readonly string[];
  /**
   * Applies their content, or checks it.
   * @throws Error in one sentence if it cannot be used: the previous content stays in effect
   */
  readonly take: (texts: FileTexts) => void | Promise<void>;
  /** The condition to report where they cannot be used. */
  readonly code: ConditionCode;
}

interface Watched {
  use: FileUse;
  /** By which a change is noticed; `undefined`: not looked at yet. */
  signature: string | undefined;
  /** A hash of the content, where the signature does not tell whether it has changed since. */
  young: string | undefined;
  problem: string | undefined;
  certificates: readonly CertificateStatus[];
}

/**
 * Files that the configuration names, read again when they change: no signal is needed, and no connection ends. They are
 * looked at by name, so that a file that was replaced, or a link that was turned (as Kubernetes does), counts as changed.
 */
export class WatchedFiles implements AsyncDisposable {
  readonly #log: Logger;
  readonly #groups = new Map<string, Map<string, Watched>>();
  readonly #stop = new AbortController();
  #looking: Promise<string[]> | undefined;
  #ended: Promise<void> | undefined;

  constructor({ log }: { readonly log: Logger }) {
    this.#log = log;
  }

  /**
   * Takes files for the first time and watches them from then on.
   * @throws Error in one sentence where they cannot be read or used
   */
  async take(group: string, use: FileUse): Promise<void> {
    await this.takeAll(group, [use]);
  }

  /** As {@link take}, for all files of a group. */
  async takeAll(group: string, uses: readonly FileUse[]): Promise<void> {
    const all = new Map<string, Watched>();
    for (const use of uses) {
      const watched = newlyWatched(use);
      await look(watched);
      if (watched.problem !== undefined) throw new Error(watched.problem);
      all.set(nameOf(use), watched);
    }
    this.#groups.set(group, all);
  }

  /** Watches these files instead of those that the group had; what was already known of one stays. */
  replace(group: string, uses: readonly FileUse[]): void {
    const known = this.#groups.get(group);
    const watched = uses.map((use): [string, Watched] => {
      const name = nameOf(use);
      const before = known?.get(name);
      if (before) before.use = use;
      return [name, before ?? newlyWatched(use)];
    });
    this.#groups.set(group, new Map(watched));
  }

  /** Begins to look at the files once in a while. */
  start(): void {
    this.#ended ??= this.#run();
  }

  /**
   * Looks at every file now. Never rejects.
   * @returns the keys of those that have changed and were taken
   */
  async look(): Promise<string[]> {
    // What changed after the look under way had passed it is seen by the next one.
    await this.#looking;
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return await this.#looking;
  }

  conditions(nowMs: number): Condition[] {
    const problems = this.#all().flatMap(({ problem, use }) =>
      problem === undefined ? [] : [{ code: use.code, text: problem }],
    );
    return [...problems, ...expiryConditions(this.certificates(), nowMs)];
  }

  /** The certificates among the files. */
  certificates(): CertificateStatus[] {
    return this.#all().flatMap(({ certificates }) => certificates);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
    await this.#looking;
  }

  #all(): Watched[] {
    return [...this.#groups.values()].flatMap((group) => [...group.values()]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const startedMs = performance.now();
      await this.look();
      const pauseMs = Math.max(lookEveryMs, (performance.now() - startedMs) / busyShare);
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #look(): Promise<string[]> {
    const taken: string[] = [];
    for (const watched of this.#all()) {
      if (this.#stop.signal.aborted) break;
      const { problem, signature } = watched;
      if (!(await look(watched))) continue;
      const keys = Object.keys(watched.use.files);
      if (watched.problem !== undefined) {
        if (watched.problem !== problem) this.#log.warn({ problem: watched.problem }, 'file cannot be used');
      } else if (signature !== undefined) {
        taken.push(...keys);
        this.#log.info({ keys }, 'changed file taken');
      }
    }
    return taken;
  }
}

function newlyWatched(use: FileUse): Watched {
  return { use, signature: undefined, young: undefined, problem: undefined, certificates: [] };
}

/** @returns whether there was something new to be read; never rejects */
async function look(watched: Watched): Promise<boolean> {
  const { use } = watched;
  const files = [...Object.values(use.files), ...(use.looksAt ?? [])];
  const signatures = await Promise.all(files.map(signatureOf));
  const signature = signatures.map(({ text }) => text).join('\n');
  const { young: before } = watched;
  if (signature === watched.signature && before === undefined) return false;
  const isYoung = signatures.some(
    ({ isComparable, changedAtMs }) => isComparable && changedAtMs > Date.now() - youngMs,
  );
  const hash = isYoung || before !== undefined ? await hashOf(files, signatures) : undefined;
  watched.young = isYoung ? hash : undefined;
  if (signature === watched.signature && hash === before) return false;
  watched.signature = signature;
  try {
    const texts: Record<string, string> = {};
    for (const [key, file] of Object.entries(use.files)) texts[key] = await read(key, file);
    await use.take(texts);
    watched.problem = undefined;
    watched.certificates = Object.entries(texts).flatMap(([key, text]) => {
      const found = certificateIn(text, key);
      return found ? [{ key, file: use.files[key]!, ...found }] : [];
    });
  } catch (error) {
    watched.problem = error instanceof Error ? error.message : String(described(error));
  }
  return true;
}

interface Signature {
  readonly text: string;
  readonly changedAtMs: number;
  /** Whether its content may be read to be compared. */
  readonly isComparable: boolean;
}

async function signatureOf(file: string): Promise<Signature> {
  try {
    const stats = await stat(file, { bigint: true });
    const { dev, ino, size, mtimeNs, ctimeNs } = stats;
    return {
      text: [dev, ino, size, mtimeNs, ctimeNs].join(' '),
      changedAtMs: Number(ctimeNs / 1_000_000n),
      isComparable: stats.isFile() && size <= mostComparedBytes,
    };
  } catch (error) {
    return { text: String((error as NodeJS.ErrnoException).code), changedAtMs: 0, isComparable: false };
  }
}

/** Of what those of the files hold that may be compared. */
async function hashOf(files: readonly string[], signatures: readonly Signature[]): Promise<string> {
  const hash = createHash('sha256');
  for (const [index, file] of files.entries()) {
    if (signatures[index]?.isComparable !== true) continue;
    const content = await readFile(file).catch((error: NodeJS.ErrnoException) => Buffer.from(String(error.code)));
    hash.update(`${index} ${content.length} `).update(content);
  }
  return hash.digest('base64');
}

async function read(key: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new Error(`${key}: ${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
}

/** The same only for the same files: others are looked at whatever is known. */
function nameOf({ name, files, looksAt = [] }: FileUse): string {
  return JSON.stringify([name, files, looksAt]);
}
