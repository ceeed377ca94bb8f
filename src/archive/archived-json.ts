import { ArchiveError } from './archive-error.ts';
import { countObjects, maxObjects } from './limits.ts';

/** @throws ArchiveError where it is not a JSON object */
export function parseObject(bytes: Buffer, name: string): Record<string, unknown> {
  return asObject(parseJson(bytes, name), name);
}

/** @throws ArchiveError where it is not JSON */
export function parseJson(bytes: Buffer, name: string): unknown {
  if (countObjects(bytes) > maxObjects) throw new ArchiveError(`${name} in it has more than ${maxObjects} objects`);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ArchiveError(`${name} in it is not JSON`, { cause: error });
  }
}

/** An object as it is, anything else as an empty one, or an error where a name is given. @throws ArchiveError */
export function asObject(value: unknown, name?: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  if (name !== undefined) throw new ArchiveError(`${name} in it is not a JSON object`);
  return {};
}
