import { memberOf } from '../oci/json.ts';

/** Whether a body is a JSON object. */
export function isObject(bytes: Buffer): boolean {
  return objectIn(bytes) !== undefined;
}

/** The JSON object that a small body is, also after a byte order mark; `undefined` where it is none. */
export function objectIn(bytes: Uint8Array): object | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Bodies up to this are parsed to see whether they are lists; of longer ones the ends have to do. */
const maxParsedBytes = 1024 * 1024;

/** A list without its member is empty, as for Go's decoder; one of errors, or of what a portal says, is none. */
export function isListing(bytes: Buffer, member: 'tags' | 'manifests'): boolean {
  if (bytes.length <= maxParsedBytes) {
    const value = objectIn(bytes);
    if (value === undefined) return false;
    if (memberOf(value, member) !== undefined) return true;
    return member === 'tags' && Object.keys(value).every((key) => key.toLowerCase() === 'name');
  }
  const start = bytes.subarray(0, 4096).toString('utf8').trimStart();
  const end = bytes.subarray(-4096).toString('utf8').trimEnd();
  const names = [member, `${member.slice(0, 1).toUpperCase()}${member.slice(1)}`];
  return start.startsWith('{') && end.endsWith('}') && names.some((name) => bytes.includes(`"${name}"`));
}
