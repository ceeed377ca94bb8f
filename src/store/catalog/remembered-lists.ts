import { createHash } from 'node:crypto';
import type { ListingAnswer } from '../../oci/listing.ts';
import type { NoteRecords } from './note-records.ts';

/** A longer list is not remembered, in bytes. */
const maxListBytes = 1024 * 1024;
/** All lists together, in bytes; those remembered first go first. */
const maxAllBytes = 16 * 1024 * 1024;
const maxLists = 2_000;
/** The part of both that one repository may take: a client that asks for its lists in ever new ways pushes out no others. */
const shareOfRepository = 1 / 4;
/** The index of all is written with each list: longer names are shortened to their digests, in characters. */
const maxNameLength = 300;
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

/** The last list that an upstream gave, for the time when it cannot answer. */
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
   * @param name what was asked for, without secrets; its first word is the repository
   * @param answer `access`: as of {@link RememberedList}
   */
  remember(name: string, answer: ListingAnswer & { readonly access: string | undefined }): void {
    const { bytes, ...rest } = answer;
    if (bytes.length > maxListBytes) return;
    const body = bytes.toString('utf8');
    const key = keyOf(name);
    const former = this.#read(key);
    const isSame = former?.body === body && former.access === answer.access;
    if (isSame && this.#now() - former.atMs < rewriteMs) return;
    const note: Note = { ...rest, atMs: this.#now(), body };
    this.#notes.set(`${prefix}${key}`, JSON.stringify(note));
    this.#make(key, bytes.length);
  }

  get(name: string): RememberedList | undefined {
    const note = this.#read(keyOf(name));
    if (note === undefined) return undefined;
    const { atMs, body, access, ...answer } = note;
    const undefinedMembers = { nextQuery: undefined, filtersApplied: undefined };
    return {
      answer: { ...undefinedMembers, ...answer, bytes: Buffer.from(body) },
      ageMs: Math.max(0, this.#now() - atMs),
      access,
    };
  }

  #read(key: string): Note | undefined {
    const text = this.#notes.get(`${prefix}${key}`);
    return text === undefined ? undefined : (JSON.parse(text) as Note);
  }

  /** Makes room for a list: first among those of its repository, where they are too many. */
  #make(key: string, bytes: number): void {
    const index = this.#readIndex();
    index.delete(key);
    index.set(key, bytes);
    const repository = repositoryOf(key);
    this.#trim((other) => repositoryOf(other) === repository, shareOfRepository);
    this.#trim(() => true, 1);
    this.#notes.set(indexNote, JSON.stringify([...index]));
  }

  /** Forgets the oldest of some lists as long as they take more than a part of what all may. */
  #trim(isMeant: (key: string) => boolean, part: number): void {
    const index = this.#readIndex();
    const meant = [...index].filter(([key]) => isMeant(key));
    let left = meant.length;
    let allBytes = meant.reduce((sum, [, bytes]) => sum + bytes, 0);
    for (const [oldest, bytes] of meant) {
      if (left === 1 || (allBytes <= maxAllBytes * part && left <= maxLists * part)) return;
      this.#notes.remove(`${prefix}${oldest}`);
      index.delete(oldest);
      allBytes -= bytes;
      left -= 1;
    }
  }

  #readIndex(): Map<string, number> {
    this.#index ??= new Map(JSON.parse(this.#notes.get(indexNote) ?? '[]') as [string, number][]);
    return this.#index;
  }
}

function keyOf(name: string): string {
  if (name.length <= maxNameLength) return name;
  return `${repositoryOf(name)} ${createHash('sha256').update(name).digest('hex')}`;
}

function repositoryOf(name: string): string {
  const space = name.indexOf(' ');
  return space === -1 ? name : name.slice(0, space);
}
