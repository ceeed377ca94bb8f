import { rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RegistryError } from '../oci/error.ts';
import { makeFolder, namesIn, readText, sizeOf } from './durable-files.ts';
import type { HostedLayout } from './layout.ts';

const idForm = /^[0-9a-f]{32}$/;

/** A session as it lies on disk. */
export interface StoredSession {
  readonly id: string;
  readonly repository: string;
  /** The key of the client that has begun it. */
  readonly caller: string;
  /** The bytes that have arrived. */
  readonly bytes: number;
  /** When it last received something, in milliseconds since 1970. */
  readonly usedAtMs: number;
}

/** The files of upload sessions: a folder each, with the bytes so far, the repository, and who has begun it. */
export class SessionFiles {
  readonly #layout: HostedLayout;
  readonly #now: () => number;

  /** @param now wall clock in milliseconds */
  constructor(layout: HostedLayout, now: () => number) {
    this.#layout = layout;
    this.#now = now;
  }

  /** The file with the bytes of a session. */
  data(id: string): string {
    return join(this.#layout.upload(id), 'data');
  }

  /** A session need not survive a loss of power: what counts is what ends it. @throws Error of the file system */
  async create(id: string, { repository, caller }: Pick<StoredSession, 'repository' | 'caller'>): Promise<void> {
    const folder = this.#layout.upload(id);
    await makeFolder(folder);
    for (const [name, content] of [
      ['data', ''],
      ['caller', caller],
      ['repository', repository],
    ] as const) {
      await writeFile(join(folder, name), content, { flag: 'wx', mode: 0o600 });
    }
  }

  /** The bytes that a session of a repository has. @throws RegistryError BLOB_UPLOAD_UNKNOWN */
  async received(repository: string, id: string): Promise<number> {
    const owner = idForm.test(id) ? await readText(join(this.#layout.upload(id), 'repository')) : undefined;
    const size = owner === repository ? await sizeOf(this.data(id)) : undefined;
    if (size === undefined) throw unknownUpload();
    return size;
  }

  /** All that have a folder, whole or not. */
  async ids(): Promise<string[]> {
    return await namesIn(this.#layout.uploads);
  }

  /** @returns `undefined` where something of it is missing. @throws Error of the file system */
  async read(id: string): Promise<StoredSession | undefined> {
    const folder = this.#layout.upload(id);
    const repository = await readText(join(folder, 'repository'));
    const bytes = await sizeOf(this.data(id));
    if (repository === undefined || bytes === undefined) return undefined;
    const caller = (await readText(join(folder, 'caller'))) ?? '';
    return { id, repository, caller, bytes, usedAtMs: await this.usedAtMs(id) };
  }

  /** When a session was last sent to, in milliseconds since 1970; now where it is gone. */
  async usedAtMs(id: string): Promise<number> {
    return (await changedAtMs(this.data(id))) ?? (await changedAtMs(this.#layout.upload(id))) ?? this.#now();
  }

  async remove(id: string): Promise<void> {
    await rm(this.#layout.upload(id), { recursive: true, force: true });
  }
}

export function unknownUpload(): RegistryError {
  return new RegistryError('unknown-upload', 'there is no such upload in this repository: begin again with POST');
}

async function changedAtMs(path: string): Promise<number | undefined> {
  return await stat(path).then(
    ({ mtimeMs }) => mtimeMs,
    () => undefined,
  );
}
