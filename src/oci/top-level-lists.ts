import { isNameOfList } from './manifest-members.ts';

const [quote, backslash, colon] = [0x22, 0x5c, 0x3a];
const opening: ReadonlySet<number> = new Set([0x7b, 0x5b]);
const closing: ReadonlySet<number> = new Set([0x7d, 0x5d]);
const space: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);
/** How a list begins, and the `null` that Go writes for an empty one. */
const beginsList: ReadonlySet<number | undefined> = new Set([0x5b, 0x6e]);

/**
 * Whether a text that may be JSON has, in its outermost object, a list that some reader takes for one of a manifest. It need not
 * be JSON to the end, nor short: readers differ in the bytes that they let pass, and in the names that they take for the same.
 */
export function hasListOfManifest(bytes: Uint8Array): boolean {
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!;
    if (opening.has(byte)) depth++;
    else if (closing.has(byte) && --depth === 0) return false;
    if (byte !== quote) continue;
    const end = endOfText(bytes, at);
    const after = skipSpace(bytes, end + 1);
    if (depth === 1 && bytes[after] === colon && beginsList.has(bytes[skipSpace(bytes, after + 1)])) {
      if (isNameOfList(textAt(bytes, at, end))) return true;
    }
    at = end;
  }
  return false;
}

/** Where the text that begins here has its closing quote. */
function endOfText(bytes: Uint8Array, start: number): number {
  let at = start + 1;
  while (at < bytes.length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1;
  return at;
}

function skipSpace(bytes: Uint8Array, start: number): number {
  let at = start;
  while (at < bytes.length && space.has(bytes[at]!)) at++;
  return at;
}

function textAt(bytes: Uint8Array, start: number, end: number): string {
  const text = Buffer.from(bytes.subarray(start, end + 1)).toString();
  try {
    return JSON.parse(text) as string;
  } catch {
    return text.slice(1, -1);
  }
}
