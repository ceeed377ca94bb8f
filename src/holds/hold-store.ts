import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { Report } from '../oci/report.ts';

/** Which repositories hold what is new. */
export interface HoldRule {
  readonly fits: (repository: string) => boolean;
  /** A digest is released this long after it has come, in milliseconds; absent: when it is approved. */
  readonly forMs: number | undefined;
}

/** A decision about a digest. */
export type Verdict = 'approved' | 'rejected';

/** The record of a digest that has been held. */
export interface HoldRecord {
  readonly digest: Digest;
  /** When it came to each repository, in milliseconds since 1970. */
  readonly heldAtMs: Readonly<Record<string, number>>;
  readonly verdict?: Verdict | undefined;
  readonly decidedAtMs?: number | undefined;
  /** The comment of the operator who approved or rejected it. */
  readonly reason?: string | undefined;
}

/** Whether a digest may be pulled from a repository now. */
export type HoldState =
  | { readonly kind: 'free' }
  /** `untilMs`: when it is released by itself; absent: when it is approved. */
  | { readonly kind: 'held'; readonly untilMs: number | undefined }
  | { readonly kind: 'rejected'; readonly reason: string | undefined };

export interface HoldStoreOptions {
  /** A folder of its own. */
  readonly folder: string;
  /** Read each time. */
  readonly rules: () => readonly HoldRule[];
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  readonly report: Report<HoldEvent>;
}

/** The events of held manifests. */
export type HoldEvent =
  /** A digest is held from now on. */
  | { readonly kind: 'held'; readonly repository: string; readonly digest: Digest }
  /** It was decided about a digest: one event for each repository that it concerns. */
  | ({ readonly kind: 'decided'; readonly repository: string } & Pick<HoldRecord, 'digest' | 'verdict' | 'reason'>)
  /** The disk has not taken a record, or not given it; a restart holds the manifest again then. */
  | { readonly kind: 'fault'; readonly error: unknown };

const free: HoldState = { kind: 'free' };

/**
 * The manifests that are held until a scanner has seen them. A digest is held from when it first comes to a repository that
 * holds what is new; what was there before is free. What was decided holds for the digest in all repositories.
 */
export class HoldStore implements AsyncDisposable {
  readonly #options: HoldStoreOptions;
  readonly #records = new Map<Digest, HoldRecord>();
  #writing: Promise<void> = Promise.resolve();

  private constructor(options: HoldStoreOptions) {
    this.#options = options;
  }

  /** Reads what was held before. A record that cannot be read is left out, and reported. */
  static async open(options: HoldStoreOptions): Promise<HoldStore> {
    const store = new HoldStore(options);
    for (const name of await namesIn(options.folder)) {
      try {
        const record = JSON.parse(await readFile(join(options.folder, name), 'utf8')) as HoldRecord;
        if (isDigest(record.digest)) store.#records.set(record.digest, record);
      } catch (error) {
        options.report({ kind: 'fault', error });
      }
    }
    return store;
  }

  /** Whether anything is held at all. */
  get isOn(): boolean {
    return this.#options.rules().length > 0;
  }

  /** A manifest has come to a repository: it is held from now on, if the repository holds what is new. */
  note(repository: string, digest: Digest): void {
    const { rules, now, report } = this.#options;
    if (!rules().some(({ fits }) => fits(repository))) return;
    const before = this.#records.get(digest);
    if (before?.heldAtMs[repository] !== undefined) return;
    const record = { ...before, digest, heldAtMs: { ...before?.heldAtMs, [repository]: now() } };
    this.#records.set(digest, record);
    void this.#write(digest).catch((error: unknown) => report({ kind: 'fault', error }));
    if (record.verdict === undefined) report({ kind: 'held', repository, digest });
  }

  /** Whether a digest may be pulled from a repository. */
  state(repository: string, digest: Digest): HoldState {
    const { rules, now } = this.#options;
    const rule = rules().find(({ fits }) => fits(repository));
    const record = this.#records.get(digest);
    if (rule === undefined || record === undefined || record.verdict === 'approved') return free;
    if (record.verdict === 'rejected') return { kind: 'rejected', reason: record.reason };
    const heldAtMs = record.heldAtMs[repository];
    const untilMs = heldAtMs === undefined || rule.forMs === undefined ? undefined : heldAtMs + rule.forMs;
    return heldAtMs === undefined || (untilMs !== undefined && untilMs <= now()) ? free : { kind: 'held', untilMs };
  }

  /**
   * Lets a manifest be pulled only if it is not held.
   * @param options `isKnown`: it was on this disk already
   * @throws RegistryError DENIED (403)
   */
  require(repository: string, digest: Digest, { isKnown }: { readonly isKnown: boolean }): void {
    // A digest that is passed through without being recorded is new all the same.
    if (!isKnown) this.note(repository, digest);
    const state = this.state(repository, digest);
    if (state.kind === 'free') return;
    if (state.kind === 'rejected') {
      const why = state.reason === undefined ? '' : `: ${state.reason}`;
      throw held(`rejected after scanning${why}`, digest);
    }
    const until =
      state.untilMs === undefined ? 'is approved' : `is approved, or ${new Date(state.untilMs).toISOString()}`;
    throw held(`held for scanning until it ${until}`, digest);
  }

  /** Decides of digests; when this has resolved it survives a loss of power. @throws Error of the file system */
  async decide(
    digests: readonly Digest[],
    { verdict, reason }: { readonly verdict: Verdict; readonly reason: string | undefined },
  ): Promise<void> {
    const { now, report } = this.#options;
    for (const digest of digests) {
      const before = this.#records.get(digest);
      const record = { digest, heldAtMs: before?.heldAtMs ?? {}, verdict, decidedAtMs: now(), reason };
      // At once: what comes to another repository meanwhile adds to it, and takes nothing of it back.
      this.#records.set(digest, record);
      try {
        await this.#write(digest);
      } catch (error) {
        this.#takeBack(record, before);
        throw error;
      }
      for (const repository of Object.keys(record.heldAtMs)) {
        report({ kind: 'decided', repository, digest, verdict, reason });
      }
    }
  }

  /** All records, of held and decided digests. */
  *all(): Generator<HoldRecord> {
    yield* this.#records.values();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
  }

  /** A decision that the disk has not taken does not count. */
  #takeBack({ digest, decidedAtMs, verdict }: HoldRecord, before: HoldRecord | undefined): void {
    const now = this.#records.get(digest);
    // Somebody may have decided otherwise since.
    if (now === undefined || now.verdict !== verdict || now.decidedAtMs !== decidedAtMs) return;
    const { verdict: former, decidedAtMs: formerAtMs, reason } = before ?? {};
    this.#records.set(digest, { ...now, verdict: former, decidedAtMs: formerAtMs, reason });
  }

  /** Writes what is known of a digest when its turn comes. */
  async #write(digest: Digest): Promise<void> {
    const { folder } = this.#options;
    const work = this.#writing.then(async () => {
      const record = this.#records.get(digest);
      if (record === undefined) return;
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const path = join(folder, `${record.digest.replace(':', '-')}.json`);
      const temporary = join(folder, `.new-${randomBytes(6).toString('hex')}`);
      {
        await using handle = await open(temporary, 'wx', 0o600);
        await handle.writeFile(JSON.stringify(record));
        await handle.sync();
      }
      await rename(temporary, path);
      await using handle = await open(folder, 'r');
      await handle.sync();
    });
    this.#writing = work.catch(() => undefined);
    await work;
  }
}

/** A HEAD has no body: its explanation is in a header as well, and the digest for a replica that asks. */
function held(sentence: string, digest: Digest): RegistryError {
  const text = sentence.replaceAll(/[^ -~]|["\\]/g, '?').slice(0, 500);
  const headers = { Warning: `299 - "${text}"`, 'Millpond-Held': digest };
  return new RegistryError('held', sentence, { detail: { digest }, headers });
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter((name) => name.endsWith('.json'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
