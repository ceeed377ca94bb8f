import type { ListingAnswer } from '../../oci/listing.ts';
import type { NoteRecords } from './note-records.ts';

/** A longer list is not remembered, in bytes. */
const maxListBytes = 1024 * 1024;
/** All lists together, in bytes; those remembered first go first. */
const maxAllBytes = 16 * 1024 * 1024;
const maxLists = 2_000;
/** A list that has not changed is noted again after this, in milliseconds: to write it each time would cost more. */
const rewriteMs = 60_000;
const indexNote = 'lists';
const prefix = 'list ';

/** A list as an upstream gave it, and how long ago. */
export interface RememberedList {
  readonly answer: ListingAnswer;
  readonly ageMs: number;
  /** How the upstream was asked for it, by a keyed mark; `undefined`: not known, or there are no other replicas. */
  readonly access: string | undefined;
}

interface Note extends Omit<ListingAnswer, 'bytes'> {
  readonly atMs: number;
  readonly body: string;
  readonly access?: string | undefined;
}

/** What upstreams have answered when they were last asked for a list, for the time when they cannot answer. */
export class RememberedLists {
  readonly #notes: NoteRecords;
  readonly #now: () => number;
  /** Bytes by name, oldest first. */
  #index: Map<string, number> | undefined;

  constructor({ notes, now }: { readonly notes: NoteRecords; readonly now: () => number }) {
    this.#notes = notes;
    this.#now = now;
  }

  /**
   * @param name what was asked for, without secrets
   * @param answer `access`: as of {@link RememberedList}
   */
  remember(name: string, answer: ListingAnswer & { readonly access: string | undefined }): void {
    const { bytes, ...rest } = answer;
    if (bytes.length > maxListBytes) return;
    const body = bytes.toString('utf8');
    const former = this.#read(name);
    const isSame = former?.body === body && former.access === answer.access;
    if (isSame && this.#now() - former.atMs < rewriteMs) return;
    const note: Note = { ...rest, atMs: this.#now(), body };
    this.#notes.set(`${prefix}${name}`, JSON.stringify(note));
    this.#make(name, bytes.length);
  }

  get(name: string): RememberedList | undefined {
    const note = this.#read(name);
    if (note === undefined) return undefined;
    const { atMs, body, access, ...answer } = note;
    const undefinedMembers = { nextQuery: undefined, filtersApplied: undefined };
    return {
      answer: { ...undefinedMembers, ...answer, bytes: Buffer.from(body) },
      ageMs: Math.max(0, this.#now() - atMs),
      access,
    };
  }

  #read(name: string): Note | undefined {
    const text = this.#notes.get(`${prefix}${name}`);
    return text === undefined ? undefined : (JSON.parse(text) as Note);
  }

  /** Makes room for a list. */
  #make(name: string, bytes: number): void {
    const index = this.#readIndex();
    index.delete(name);
    index.set(name, bytes);
    let allBytes = 0;
    for (const size of index.values()) allBytes += size;
    for (const [oldest, size] of index) {
      if (allBytes <= maxAllBytes && index.size <= maxLists) break;
      this.#notes.remove(`${prefix}${oldest}`);
      index.delete(oldest);
      allBytes -= size;
    }
    this.#notes.set(indexNote, JSON.stringify([...index]));
  }

  #readIndex(): Map<string, number> {
    this.#index ??= new Map(JSON.parse(this.#notes.get(indexNote) ?? '[]') as [string, number][]);
    return this.#index;
  }
}
