/** Whether a body is a JSON object. */
export function isObject(bytes: Buffer): boolean {
  return objectIn(bytes) !== undefined;
}

function objectIn(bytes: Buffer): object | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
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
    return member in value || (member === 'tags' && Object.keys(value).every((key) => key === 'name'));
  }
  const start = bytes.subarray(0, 4096).toString('utf8').trimStart();
  const end = bytes.subarray(-4096).toString('utf8').trimEnd();
  return start.startsWith('{') && end.endsWith('}') && bytes.includes(`"${member}"`);
}
