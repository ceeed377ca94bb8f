/** The most that a JSON document may contain. */
export interface JsonLimits {
  /** Values and members together; the parser needs far more time and memory for them than for text. */
  readonly maxValues: number;
  /** Depth of nested lists and objects. */
  readonly maxDepth: number;
}

/** A document has more values, or deeper nesting, than its reader allows. It has not been parsed. */
export class JsonLimitError extends Error {
  override readonly name = 'JsonLimitError';
}

const quote = 0x22;
const backslash = 0x5c;
const comma = 0x2c;

/**
 * Parses untrusted JSON: counts its values first, in one pass over the bytes, because a parser takes seconds for what a
 * few megabytes can hold. Invalid UTF-8 is read as replacement characters, as Go does.
 * @throws JsonLimitError if it exceeds the limits; SyntaxError if it is not JSON
 */
export function parseJson(bytes: Uint8Array, limits: JsonLimits): unknown {
  return parseWithNames(bytes, limits).value;
}

/**
 * As {@link parseJson}, and whether an object in it has two members of one name: parsers differ in which of the two, or what
 * of both, they read.
 */
export function parseWithNames(
  bytes: Uint8Array,
  limits: JsonLimits,
): { readonly value: unknown; readonly hasNameTwice: boolean } {
  const values = countWithin(bytes, limits);
  const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
  // Of two members of one name, one is not there any more.
  return { value, hasNameTwice: countIn(value) < values };
}

/** A member of an object, in whatever case its name is written if it is not there as it should be: so does Go read it. */
export function memberOf(object: object, name: string): unknown {
  if (Object.hasOwn(object, name)) return (object as Record<string, unknown>)[name];
  return Object.entries(object).find(([other]) => other.toLowerCase() === name)?.[1];
}

/** One, and one for each list or object and each comma. @throws JsonLimitError */
function countWithin(bytes: Uint8Array, { maxValues, maxDepth }: JsonLimits): number {
  let values = 1;
  let depth = 0;
  for (let index = 0; index < bytes.length; index += 1) {
    const byte = bytes[index]!;
    if (byte === quote) {
      index = endOfText(bytes, index + 1);
    } else if (byte === comma) {
      values += 1;
    } else if (isOpening(byte)) {
      values += 1;
      depth += 1;
      if (depth > maxDepth) throw new JsonLimitError(`it nests its values deeper than ${maxDepth}`);
    } else if (isClosing(byte)) {
      depth -= 1;
    }
    if (values > maxValues) throw new JsonLimitError(`it has more than ${maxValues} values`);
  }
  return values;
}

/** As {@link countWithin} counts, of what has been parsed, no deeper than that has let through. */
function countIn(value: unknown): number {
  return typeof value === 'object' && value !== null ? 1 + countMembers(value) : 1;
}

function countMembers(container: object): number {
  const members: unknown[] = Array.isArray(container) ? container : Object.values(container);
  let values = Math.max(1, members.length);
  for (const member of members) if (typeof member === 'object' && member !== null) values += countMembers(member);
  return values;
}

/** The position of the quotation mark that ends a string; the end of the bytes if there is none. */
function endOfText(bytes: Uint8Array, start: number): number {
  let index = start;
  while (index < bytes.length && bytes[index] !== quote) index += bytes[index] === backslash ? 2 : 1;
  return index;
}

function isOpening(byte: number): boolean {
  return byte === 0x7b || byte === 0x5b;
}

function isClosing(byte: number): boolean {
  return byte === 0x7d || byte === 0x5d;
}
