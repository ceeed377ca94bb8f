import { createHash } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Digest, finishDigest } from '../oci/digest.ts';
import type { Archive } from './archive.ts';
import {
  type Compression,
  compressionOf,
  decompressor,
  maxUnpackedBytes,
  UnknownCompression,
  unpackFailure,
} from './compression.ts';

/** A layer of an archive in the form of `docker save`. */
export interface SavedLayer {
  readonly size: number;
  readonly compression: Compression;
  /** Of one that is compressed. */
  readonly packed: PackedLayer | undefined;
}

type PackedLayer =
  | {
      /** Of its bytes as they are. */
      readonly digest: Digest;
      /** Of what it unpacks to, in each algorithm. */
      readonly unpacked: readonly Digest[];
      readonly reason?: undefined;
    }
  /** It cannot be unpacked; words that follow its name. */
  | { readonly reason: string };

/**
 * Finds out which layers are compressed, and hashes those as they are and unpacked: the config of an image knows a layer
 * by its unpacked bytes alone. Goes once through the files; of one that is not compressed only the beginning is read.
 * @throws ArchiveError where the archive cannot be read
 */
export async function measureLayers(archive: Archive, files: ReadonlySet<string>): Promise<Map<string, SavedLayer>> {
  const layers = new Map<string, SavedLayer>();
  for await (const { name, size, body } of archive.visit(files)) {
    const chunks = body[Symbol.asyncIterator]();
    const { value: first } = await chunks.next();
    try {
      const compression = first === undefined ? 'none' : compressionOf(first as Buffer);
      const packed = compression === 'none' ? undefined : await measure(first as Buffer, chunks, { size, compression });
      layers.set(name, { size, compression, packed });
    } catch (error) {
      if (!(error instanceof UnknownCompression)) throw error;
      layers.set(name, { size, compression: 'none', packed: { reason: error.reason } });
    }
  }
  return layers;
}

async function measure(
  first: Buffer,
  rest: AsyncIterator<Buffer>,
  { size, compression }: { readonly size: number; readonly compression: 'gzip' | 'zstd' },
): Promise<PackedLayer> {
  const packed = createHash('sha256');
  const unpacked = [createHash('sha256'), createHash('sha512')] as const;
  let failure: { readonly error: Error } | undefined;
  async function* bytes(): AsyncGenerator<Buffer> {
    try {
      for (let chunk = first; ; ) {
        packed.update(chunk);
        yield chunk;
        const next = await rest.next();
        if (next.done === true) return;
        chunk = next.value;
      }
    } catch (error) {
      failure = { error: error as Error };
      throw error;
    }
  }
  let unpackedBytes = 0;
  const most = maxUnpackedBytes(size);
  const hashing = new Writable({
    write(chunk: Buffer, _encoding, done) {
      unpackedBytes += chunk.length;
      for (const hash of unpacked) hash.update(chunk);
      done(unpackedBytes > most ? new Error(`unpacks to more than ${most} bytes`) : null);
    },
  });
  try {
    await pipeline(Readable.from(bytes(), { objectMode: false }), decompressor(compression), hashing);
  } catch (error) {
    // A fault of the archive itself does not concern this layer.
    if (failure !== undefined) throw failure.error;
    return { reason: unpackedBytes > most ? (error as Error).message : unpackFailure(error) };
  }
  const [sha256, sha512] = unpacked;
  return {
    digest: finishDigest('sha256', packed),
    unpacked: [finishDigest('sha256', sha256), finishDigest('sha512', sha512)],
  };
}

/**
 * Finds the file of each layer. Where images say that several are the same one, the bytes tell; where none is, the first
 * is taken, and found wrong when it is read.
 */
export async function settleClaims(
  archive: Archive,
  claims: ReadonlyMap<Digest, ReadonlySet<string>>,
): Promise<Map<Digest, string>> {
  const settled = new Map<Digest, string>();
  const doubtful = new Map<string, Digest[]>();
  for (const [digest, files] of claims) {
    for (const file of files) {
      if (!settled.has(digest)) settled.set(digest, file);
      if (files.size > 1) doubtful.set(file, [...(doubtful.get(file) ?? []), digest]);
    }
  }
  if (doubtful.size === 0) return settled;
  for await (const { name, body } of archive.visit(new Set(doubtful.keys()))) {
    const hashes = { sha256: createHash('sha256'), sha512: createHash('sha512') };
    for await (const chunk of body) for (const hash of Object.values(hashes)) hash.update(chunk);
    const actual = [finishDigest('sha256', hashes.sha256), finishDigest('sha512', hashes.sha512)];
    for (const digest of doubtful.get(name) ?? []) if (actual.includes(digest)) settled.set(digest, name);
  }
  return settled;
}
