import type { FileHandle } from 'node:fs/promises';
import type { StoredBlob } from './blob-store.ts';
import { readAt } from './read-at.ts';

/** A blob whose content is in memory. */
export function inMemory(bytes: Buffer): StoredBlob {
  return {
    size: bytes.length,
    bytes,
    modifiedAtMs: undefined,
    read: (buffer, position) => Promise.resolve(bytes.copy(buffer, 0, position)),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** A blob that is read from its file. */
export class OpenFile implements StoredBlob {
  readonly path: string;
  readonly size: number;
  readonly bytes = undefined;
  readonly modifiedAtMs: number;
  readonly #handle: FileHandle;
  readonly #onClosed: () => void;

  constructor(
    handle: FileHandle,
    { path, size, modifiedAtMs, onClosed }: { path: string; size: number; modifiedAtMs: number; onClosed: () => void },
  ) {
    this.path = path;
    this.#handle = handle;
    this.#onClosed = onClosed;
    this.size = size;
    this.modifiedAtMs = modifiedAtMs;
  }

  read(buffer: Buffer, position: number): Promise<number> {
    return readAt(this.#handle, buffer, { position, length: Math.min(buffer.length, this.size - position) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#onClosed();
    await this.#handle.close();
  }
}
