import { createCipheriv, createHash } from 'node:crypto';
import type { Digest, DigestAlgorithm } from '../../src/oci/digest.ts';

/** What a blob is made of: bytes that are given, or as many pseudo-random ones as a seed and a size say. */
export type BlobContent =
  | Uint8Array
  | string
  | { readonly size: number; readonly seed?: number | string; readonly algorithm?: DigestAlgorithm };

/** Bytes that can be read from any offset any number of times; big ones are made while they are read. */
export interface ByteSource {
  /** Length in bytes. */
  readonly size: number;
  /** The bytes from `start` up to, without, `end`, in chunks of at most `chunkBytes` (default 64 KiB). */
  read(start: number, end: number, chunkBytes?: number): Generator<Buffer, void, undefined>;
}

const defaultChunkBytes = 64 * 1024;
const cipherBlockBytes = 16;

/** Bytes that are in memory. */
export function memorySource(bytes: Uint8Array): ByteSource {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return {
    size: buffer.length,
    *read(start, end, chunkBytes = defaultChunkBytes) {
      for (let offset = start; offset < Math.min(end, buffer.length); offset += chunkBytes) {
        yield buffer.subarray(offset, Math.min(offset + chunkBytes, end, buffer.length));
      }
    },
  };
}

/** Pseudo-random bytes, the same for the same seed: the key stream of AES in counter mode, which any offset can enter. */
export function seededSource(size: number, seed: number | string = 0): ByteSource {
  const key = createHash('sha256').update(`blob ${seed}`).digest().subarray(0, 16);
  return {
    size,
    *read(start, end, chunkBytes = defaultChunkBytes) {
      const last = Math.min(end, size);
      const counter = Buffer.alloc(cipherBlockBytes);
      counter.writeBigUInt64BE(BigInt(Math.floor(start / cipherBlockBytes)), 8);
      const cipher = createCipheriv('aes-128-ctr', key, counter);
      cipher.update(Buffer.alloc(start % cipherBlockBytes));
      const zeros = Buffer.alloc(Math.max(0, Math.min(chunkBytes, last - start)));
      for (let offset = start; offset < last; offset += chunkBytes) {
        yield cipher.update(zeros.subarray(0, Math.min(chunkBytes, last - offset)));
      }
    },
  };
}

/** The same bytes with the lowest bit of one of them turned over. */
export function flippedSource(source: ByteSource, position: number): ByteSource {
  return {
    size: source.size,
    *read(start, end, chunkBytes) {
      let offset = start;
      for (const chunk of source.read(start, end, chunkBytes)) {
        const index = position - offset;
        offset += chunk.length;
        if (index < 0 || index >= chunk.length) {
          yield chunk;
          continue;
        }
        const copy = Buffer.from(chunk);
        copy.writeUInt8(copy.readUInt8(index) ^ 1, index);
        yield copy;
      }
    },
  };
}

/** A source for any {@link BlobContent}. */
export function sourceOf(content: BlobContent): ByteSource {
  if (typeof content === 'string') return memorySource(Buffer.from(content));
  if (content instanceof Uint8Array) return memorySource(content);
  return seededSource(content.size, content.seed);
}

/** The digest of a whole source, read once; about a second for every gigabyte. */
export function digestOfSource(source: ByteSource, algorithm: DigestAlgorithm = 'sha256'): Digest {
  const hash = createHash(algorithm);
  for (const chunk of source.read(0, source.size, 1024 * 1024)) hash.update(chunk);
  return `${algorithm}:${hash.digest('hex')}` as Digest;
}

/** All bytes of a source in one buffer. */
export function readAll(source: ByteSource): Buffer {
  return Buffer.concat([...source.read(0, source.size)]);
}
