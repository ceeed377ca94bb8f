import { encodeHeader, padded } from '../../src/archive/tar-header.ts';

/** One entry of a tar archive, written as programs do that do not follow our habits. */
export interface RawEntry {
  readonly name: string;
  /** The type flag; default: a file. */
  readonly type?: string;
  /** What its header says of its size; default: that of its content. */
  readonly size?: number;
  readonly content?: string | Uint8Array;
  readonly link?: string;
}

/** The header and the content of one entry, in whole blocks. */
export function rawEntry({ name, type = '0', content = '', size, link = '' }: RawEntry): Buffer {
  const bytes = Buffer.from(content as string);
  const header = encodeHeader('x', size ?? bytes.length);
  header.fill(0, 0, 100);
  header.write(name, 0, 100);
  header.write(type, 156, 1);
  header.write(link, 157, 100);
  header.write('        ', 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, bytes, Buffer.alloc(padded(bytes.length) - bytes.length)]);
}

/** A tar archive of these entries. */
export function rawTar(...entries: readonly RawEntry[]): Buffer {
  return Buffer.concat([...entries.map(rawEntry), Buffer.alloc(1024)]);
}

/** Attributes of the next entry, as pax writes them; with the type `g`, of all that follow. */
export function attributes(values: Readonly<Record<string, string>>, type = 'x'): RawEntry {
  const content = Object.entries(values).map(([key, value]) => {
    for (let length = 0; ; length += 1) {
      const record = `${length} ${key}=${value}\n`;
      if (Buffer.byteLength(record) === length) return record;
    }
  });
  return { name: 'attributes', type, content: content.join('') };
}
