import { pipeline, Readable } from 'node:stream';
import {
  brotliDecompressSync,
  constants,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  zstdDecompressSync,
} from 'node:zlib';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import type { TransferBody } from '../transport/body.ts';

interface Coding {
  /** The first bytes of its data, where the coding has a mark. */
  readonly magic: Buffer | undefined;
  /** @param start of the data */
  readonly stream: (start: Buffer) => NodeJS.ReadWriteStream;
  readonly decode: (bytes: Buffer, options: { maxOutputLength: number; finishFlush?: number }) => Buffer;
  /** The value of `finishFlush` with which data may end too early. */
  readonly partly: number;
}

const { Z_SYNC_FLUSH, BROTLI_OPERATION_FLUSH, ZSTD_e_flush } = constants;
const gzip: Coding = {
  magic: Buffer.from([0x1f, 0x8b]),
  stream: () => createGunzip(),
  decode: gunzipSync,
  partly: Z_SYNC_FLUSH,
};

/** The codings that can be undone (RFC 9110, 8.4.1; RFC 8878). What else is written there is a label, such as `binary`. */
const known: Readonly<Record<string, Coding>> = {
  gzip,
  'x-gzip': gzip,
  deflate: {
    magic: undefined,
    stream: (start) => (isZlib(start) ? createInflate() : createInflateRaw()),
    decode: (bytes, options) => (isZlib(bytes) ? inflateSync : inflateRawSync)(bytes, options),
    partly: Z_SYNC_FLUSH,
  },
  br: {
    magic: undefined,
    stream: () => createBrotliDecompress(),
    decode: brotliDecompressSync,
    partly: BROTLI_OPERATION_FLUSH,
  },
  zstd: {
    magic: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]),
    stream: () => createZstdDecompress(),
    decode: zstdDecompressSync,
    partly: ZSTD_e_flush,
  },
};

/** Bodies up to this are hashed both ways before the first byte is passed on. */
const maxTriedBytes = 256 * 1024;
/** So much of a large body is looked at. */
const maxPeekedBytes = 16 * 1024;
/** More codings than this are nothing that registries do. */
const maxCodings = 3;
/** A small body may have so many bytes when it is decoded. */
const maxDecodedBytes = 16 * 1024 * 1024;

/** The codings of a `Content-Encoding`, in lower case; empty where the body is what it is. */
export function codingsOf(header: string | undefined): string[] {
  const names = (header ?? '').slice(0, 200).split(',');
  return names.map((name) => name.trim().toLowerCase()).filter((name) => name !== '' && name !== 'identity');
}

/**
 * The bytes that are meant by a small body: those that a test takes, as they are or decoded, also with fewer or one more
 * coding undone than are named.
 * @returns as they are where the test takes none
 */
export function plainBytes(bytes: Buffer, codings: readonly string[], isRight: (bytes: Buffer) => boolean): Buffer {
  const chain = chainOf(codings);
  const innermost = chain.at(-1);
  if (innermost === undefined || isRight(bytes)) return bytes;
  let decoded = bytes;
  try {
    for (const coding of [...chain, innermost]) {
      decoded = coding.decode(decoded, { maxOutputLength: maxDecodedBytes });
      if (isRight(decoded)) return decoded;
    }
  } catch {
    // It is no such coding any more.
  }
  return bytes;
}

/** A blob's body without what `Content-Encoding` says of it. */
export interface PlainBody {
  readonly body: TransferBody;
  /** Bytes of it; `undefined` where that is not known before its end. */
  readonly length: number | undefined;
}

/**
 * The bytes of a blob whose answer names a coding. Storage keeps the label of what was uploaded, proxies name what they
 * do not do: the digest decides where the body is small, the length where it is known, the coding's own mark else.
 * @param options.size of the blob, where a manifest tells it
 * @returns `undefined` where it cannot be told; the body is destroyed then
 * @throws what the body throws
 */
export async function plainBody(
  answer: {
    readonly body: TransferBody;
    readonly codings: readonly string[];
    readonly contentLength: number | undefined;
  },
  { digest, size }: { readonly digest: Digest; readonly size: number | undefined },
): Promise<PlainBody | undefined> {
  const { body, codings, contentLength } = answer;
  const chain = chainOf(codings);
  const [coding] = chain;
  if (coding === undefined || (size !== undefined && contentLength === size)) return { body, length: contentLength };
  const source = body[Symbol.asyncIterator]();
  const head: Buffer[] = [];
  let headBytes = 0;
  let isWhole = false;
  while (headBytes <= maxTriedBytes && !isWhole) {
    const next = await source.next();
    isWhole = next.done === true;
    if (next.done !== true) {
      head.push(next.value);
      headBytes += next.value.length;
    }
  }
  const start = Buffer.concat(head, headBytes);
  if (isWhole) {
    const plain = plainBytes(start, codings, (bytes) => digestOf(bytes, digestAlgorithm(digest)) === digest);
    return { body: bodyOf([plain], body), length: plain.length };
  }
  const rest = joined(start, source);
  const isKnown = size !== undefined && contentLength !== undefined;
  // Several on top of each other are believed only where the length confirms it.
  const kind = isKnown ? 'coded' : chain.length > 1 ? 'plain' : guess(start, coding);
  if (kind === 'plain') return { body: bodyOf(rest, body), length: contentLength };
  if (kind === 'coded') return { body: bodyOf(decoding(rest, { chain, start }), body), length: undefined };
  body.destroy();
  return undefined;
}

/** Guesses from the beginning of a large body whether its coding was added on the way. */
function guess(start: Buffer, coding: Coding): 'plain' | 'coded' | 'unknown' {
  if (coding.magic !== undefined && !start.subarray(0, coding.magic.length).equals(coding.magic)) return 'plain';
  let inner: Buffer;
  try {
    inner = coding.decode(start.subarray(0, maxPeekedBytes), {
      maxOutputLength: maxDecodedBytes,
      finishFlush: coding.partly,
    });
  } catch {
    return 'plain';
  }
  // Only proxies compress JSON and compressed content once more; a layer is a compressed tar.
  const isCompressed = Object.values(known).some(
    ({ magic }) => magic !== undefined && inner.subarray(0, magic.length).equals(magic),
  );
  if (isCompressed || inner[0] === 0x7b) return 'coded';
  return inner.subarray(257, 262).toString('latin1') === 'ustar' ? 'plain' : 'unknown';
}

/** The codings to undo, in this order: they are named in the order in which they were applied. */
function chainOf(codings: readonly string[]): readonly Coding[] {
  const chain = codings.flatMap((name) => (Object.hasOwn(known, name) ? (known[name] ?? []) : [])).toReversed();
  return chain.length > maxCodings ? [] : chain;
}

/** Whether data has the header of zlib (RFC 1950, 2.2), as `deflate` is defined; many servers leave it out. */
function isZlib(start: Buffer): boolean {
  return start.length >= 2 && (start[0]! & 0x0f) === 8 && start.readUInt16BE(0) % 31 === 0;
}

async function* joined(start: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  yield start;
  for (;;) {
    const next = await rest.next();
    if (next.done === true) return;
    yield next.value;
  }
}

async function* decoding(
  source: AsyncIterable<Buffer>,
  { chain, start }: { readonly chain: readonly Coding[]; readonly start: Buffer },
): AsyncGenerator<Buffer, void, undefined> {
  const [outermost, ...others] = chain;
  if (outermost === undefined) {
    yield* source;
    return;
  }
  // The reader of the decoder sees what either of them fails with.
  const decoder = outermost.stream(start);
  const decoded = pipeline(Readable.from(source), decoder, () => undefined) as unknown as AsyncIterable<Buffer>;
  const chunks = decoded[Symbol.asyncIterator]();
  const first = others.length === 0 ? undefined : await chunks.next();
  if (first?.done === true) return;
  const rest = first === undefined ? decoded : joined(first.value, chunks);
  yield* decoding(rest, { chain: others, start: first?.value ?? start });
}

function bodyOf(chunks: AsyncIterable<Buffer> | Iterable<Buffer>, body: TransferBody): TransferBody {
  return {
    async *[Symbol.asyncIterator]() {
      yield* chunks;
    },
    destroy: (error) => body.destroy(error),
  };
}
