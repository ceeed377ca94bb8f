import type { Digest } from '../../../oci/digest.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { Verdict, Verification } from '../../../store/files/verification.ts';
import { Turns } from '../../../waiting/turns.ts';
import type { CheckupEvent, Finding, Mending } from '../../protocol/verify.ts';
import { type ImageSelection, written } from '../administration/image-names.ts';
import { findNames, type StoredName, storedNames } from '../administration/stored-names.ts';

export interface CheckupOptions {
  readonly catalog: Catalog;
  readonly verification: Verification;
  /** Absent: only reports. */
  readonly mender: { mend(finding: Finding, signal: AbortSignal): Promise<Mending> } | undefined;
}

/** Interval of progress events, in milliseconds. */
const progressEveryMs = 200;

/** Reads stored content again, all of it or that of some images, and reports what is wrong. */
export class Checkup {
  readonly #options: CheckupOptions;
  #blobs = 0;
  #bytes = 0;
  #findings = 0;
  #mended = 0;

  constructor(options: CheckupOptions) {
    this.#options = options;
  }

  /** Checks everything that the selections include; empty: everything stored. Once. @throws the signal's reason, DiskFault */
  async *run(selections: readonly ImageSelection[], signal: AbortSignal): AsyncGenerator<CheckupEvent> {
    const { catalog, verification } = this.#options;
    const onRead = (bytes: number): void => void (this.#bytes += bytes);
    if (selections.length === 0) {
      yield { kind: 'plan', ...catalog.blobs.usage() };
      yield* this.#judge(verification.recorded({ signal, onRead }), signal);
      yield* this.#judge(verification.unrecorded({ signal, onRead }), signal);
    } else {
      const parts = await this.#partsOf(selections, signal);
      yield { kind: 'plan', blobs: parts.size, bytes: parts.values().reduce((sum, size) => sum + size, 0) };
      yield* this.#judge(this.#checks(parts, { signal, onRead }), signal);
    }
    let incomplete = 0;
    for await (const name of this.#named(selections, signal)) {
      if (!catalog.blobs.has(name.digest) || catalog.images.isWhole(name.digest)) continue;
      incomplete += 1;
      yield { kind: 'incomplete', name: written(name) };
    }
    const [blobs, bytes, findings, mended] = [this.#blobs, this.#bytes, this.#findings, this.#mended];
    yield { kind: 'end', blobs, bytes, findings, mended, incomplete };
  }

  async *#judge(verdicts: AsyncIterable<Verdict>, signal: AbortSignal): AsyncGenerator<CheckupEvent> {
    let toldMs = performance.now();
    for await (const verdict of verdicts) {
      this.#blobs += 1;
      if (verdict.kind !== 'ok') yield await this.#found(verdict, signal);
      if (performance.now() - toldMs < progressEveryMs) continue;
      toldMs = performance.now();
      yield { kind: 'progress', blobs: this.#blobs, bytes: this.#bytes };
    }
  }

  async #found(finding: Finding, signal: AbortSignal): Promise<CheckupEvent> {
    const { catalog, mender } = this.#options;
    // Asked before the repair: forgotten blobs belong to no repository.
    const repositories = 'digest' in finding ? catalog.grants.readers(finding.digest).slice(0, 3) : [];
    const mending = mender === undefined ? null : await mender.mend(finding, signal);
    // A file that is not a blob is harmless.
    if (finding.kind !== 'stray') this.#findings += 1;
    if (mending !== null && mending !== 'lost' && mending !== 'none') this.#mended += 1;
    return { kind: 'finding', finding, repositories, mending };
  }

  /** The stored parts of images, each once, with their sizes. */
  async #partsOf(selections: readonly ImageSelection[], signal: AbortSignal): Promise<Map<Digest, number>> {
    const { catalog } = this.#options;
    const turns = new Turns();
    const parts = new Map<Digest, number>();
    for await (const { repository, digest, variants } of this.#named(selections, signal)) {
      for (const root of [digest, ...variants]) {
        for (const part of catalog.images.parts(root, repository))
          if (part.isStored) parts.set(part.digest, part.size ?? 0);
        await turns.next(signal);
      }
    }
    return parts;
  }

  async *#named(selections: readonly ImageSelection[], signal: AbortSignal): AsyncGenerator<StoredName> {
    const { catalog } = this.#options;
    if (selections.length === 0) yield* storedNames(catalog, [], signal);
    for (const selection of selections) {
      let isFound = false;
      for await (const name of findNames(catalog, selection, signal)) {
        isFound = true;
        yield name;
      }
      if (!isFound) throw new Error(`nothing of ${selection.text} is here`);
    }
  }

  async *#checks(
    parts: ReadonlyMap<Digest, number>,
    options: { readonly signal: AbortSignal; readonly onRead: (bytes: number) => void },
  ): AsyncGenerator<Verdict> {
    const { catalog, verification } = this.#options;
    for (const digest of parts.keys()) {
      const size = catalog.blobs.get(digest)?.size;
      const verdict = size === undefined ? undefined : await verification.check(digest, size, options);
      if (verdict) yield verdict;
    }
  }
}
