import { ArchiveError, shownName } from './archive-error.ts';

/** Block size of a tar archive: everything begins at a multiple of it. */
export const blockBytes = 512;

/** The most that fits the eleven octal digits of a header's size. */
const maxOctalSize = 0o77777777777;
/** 1980-01-01: some programs warn of times near 1970. */
const writtenMtimeSeconds = 315_532_800;

/** One header of a tar archive. */
export interface TarHeader {
  readonly name: string;
  readonly size: number;
  /** The type flag: `'0'` is a file, `'5'` a directory, `'x'` attributes of the next entry. */
  readonly type: string;
  readonly linkName: string;
}

/**
 * Reads a header (POSIX.1-1988 ustar, GNU's numbers in base 256).
 * @param block 512 bytes
 * @returns `undefined` for a block of zeros, which ends an archive
 * @throws ArchiveError
 */
export function decodeHeader(block: Buffer): TarHeader | undefined {
  let sum = 8 * 0x20;
  let high = 0;
  for (let index = 0; index < blockBytes; index += 1) {
    if (index >= 148 && index < 156) continue;
    sum += block[index]!;
    if (block[index]! >= 0x80) high += 1;
  }
  if (sum === 8 * 0x20 && block[148] === 0) return undefined;
  const said = readNumber(block.subarray(148, 156));
  // Some old programs add the bytes up as signed ones.
  if (said !== sum && said !== sum - high * 0x100) {
    throw new ArchiveError('it is not a tar archive, or a header in it is damaged');
  }
  const name = readText(block.subarray(0, 100));
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isUstar ? readText(block.subarray(345, 500)) : '';
  const size = readNumber(block.subarray(124, 136));
  if (size === undefined) throw new ArchiveError(`the size of ${shownName(name)} in it is not a number`);
  const flag = block[156] === 0 ? '0' : String.fromCharCode(block[156]!);
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    size,
    // Contiguous files are files.
    type: flag === '7' ? '0' : flag,
    linkName: readText(block.subarray(157, 257)),
  };
}

/** Writes the header of a file or, where the name ends with a slash, a directory: always the same bytes. */
export function encodeHeader(name: string, size: number): Buffer {
  if (Buffer.byteLength(name) <= 100) return headerBlock(name, { size, type: name.endsWith('/') ? '5' : '0' });
  const record = paxRecord('path', name);
  const attributes = Buffer.alloc(padded(record.length));
  record.copy(attributes);
  return Buffer.concat([
    headerBlock('pax-header', { size: record.length, type: 'x' }),
    attributes,
    headerBlock(name, { size, type: '0' }),
  ]);
}

/** A size rounded up to whole blocks. */
export function padded(size: number): number {
  return Math.ceil(size / blockBytes) * blockBytes;
}

/**
 * Reads the attributes of a pax header (POSIX.1-2001, "pax Extended Header").
 * @throws ArchiveError
 */
export function decodeAttributes(content: Buffer): Map<string, string> {
  const attributes = new Map<string, string>();
  for (let start = 0; start < content.length && content[start] !== 0; ) {
    const space = content.indexOf(0x20, start);
    const digits = content.toString('latin1', start, Math.min(space, start + 10));
    const end = start + Number(digits);
    const equals = content.indexOf(0x3d, space);
    if (!/^\d+$/.test(digits) || content[end - 1] !== 0x0a || equals === -1 || equals >= end) {
      throw new ArchiveError('a pax header in it is damaged');
    }
    attributes.set(content.toString('utf8', space + 1, equals), content.toString('utf8', equals + 1, end - 1));
    start = end;
  }
  return attributes;
}

function headerBlock(name: string, { size, type }: { size: number; type: string }): Buffer {
  const block = Buffer.alloc(blockBytes);
  block.write(name, 0, 100);
  block.write(type === '5' ? '0000755\0' : '0000644\0', 100);
  block.write('0000000\x000000000\0', 108);
  if (size <= maxOctalSize) block.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  else {
    block[124] = 0x80;
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  block.write(`${writtenMtimeSeconds.toString(8).padStart(11, '0')}\0        ${type}`, 136);
  block.write('ustar\x0000', 257);
  block.write('0000000\x000000000\0', 329);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}

function paxRecord(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  // The length counts its own digits.
  let length = Buffer.byteLength(rest);
  while (Buffer.byteLength(rest) + String(length).length !== length) length += 1;
  return Buffer.from(`${length}${rest}`);
}

function readText(field: Buffer): string {
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end === -1 ? field.length : end);
}

function readNumber(field: Buffer): number | undefined {
  if ((field[0]! & 0x80) !== 0) {
    // Base 256: nothing that we take needs more than the last six bytes.
    const head = field.subarray(1, field.length - 6);
    if (field[0] !== 0x80 || head.some((byte) => byte !== 0)) return undefined;
    return field.readUIntBE(field.length - 6, 6);
  }
  const text = field.toString('latin1').trimStart();
  return /^[0-7]*[\0 ]*$/.test(text) ? Number.parseInt(text, 8) || 0 : undefined;
}
