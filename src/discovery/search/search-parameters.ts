import { isArtifactTypeName } from '../../oci/artifact-types.ts';
import { RegistryError } from '../../oci/error.ts';
import { type SearchOrder, type SearchPosition, type SearchQuery, searchOrders, searchTimes } from './search-query.ts';
import { phrasesOf } from './words.ts';

/** Most results on a page, and as many as there are where that is not stated. */
export const maxResults = 1_000;
const defaultResults = 100;
/** Longest words that are read, in characters. */
const maxWordsLength = 500;
/** Most types of one parameter: each is looked for in every entry. */
const maxTypes = 50;
/** Longest other text that is read, in characters: a type, a platform or a repository. */
const maxTextLength = 300;

/**
 * Reads what is searched for.
 * @param options `exactRepository`: the one that is searched; absent: all
 * @throws RegistryError UNSUPPORTED (400) naming the parameter
 */
export function readSearch(
  parameters: URLSearchParams,
  { nowMs, exactRepository }: { readonly nowMs: number; readonly exactRepository?: string | undefined },
): SearchQuery {
  const types = listOf(parameters, 'type');
  const words = parameters.getAll('q').join(' ');
  if (words.length > maxWordsLength) throw refused('q', `at most ${maxWordsLength} characters`);
  const time = oneOf(searchTimes, { name: 'time', value: parameters.get('time') ?? 'changed' });
  const { sort, descending } = readOrder(parameters.get('sort') ?? 'name', time);
  const order = `${descending ? '-' : ''}${sort}`;
  return {
    phrases: phrasesOf(words),
    types: types.filter(isArtifactTypeName),
    // A type that is in no table is one that its owner knows by its media type.
    mediaTypes: [
      ...types.filter((type) => !isArtifactTypeName(type)).map(requireMediaType),
      ...listOf(parameters, 'mediaType'),
      ...listOf(parameters, 'artifactType'),
    ],
    platform: readText(parameters, 'platform')?.toLowerCase(),
    digest: readDigest(parameters.get('digest')),
    repository: readText(parameters, 'repository'),
    exactRepository,
    minSizeBytes: readSize(parameters, 'minSize'),
    maxSizeBytes: readSize(parameters, 'maxSize'),
    time,
    sinceMs: readTime(parameters, { name: 'since', nowMs }),
    untilMs: readTime(parameters, { name: 'until', nowMs }),
    latest: readSwitch(parameters, 'latest'),
    sort,
    descending,
    limit: readLimit(parameters.get('n')),
    after: readPosition(parameters.get('next'), order),
  };
}

/** A position as clients give it back: opaque, and good for the same order only. */
export function writePosition({ key, id }: SearchPosition, { sort, descending }: SearchQuery): string {
  return Buffer.from(JSON.stringify([`${descending ? '-' : ''}${sort}`, key, id])).toString('base64url');
}

function readPosition(text: string | null, order: string): SearchPosition | undefined {
  if (text === null) return undefined;
  try {
    const [of, key, id] = JSON.parse(Buffer.from(text, 'base64url').toString()) as unknown[];
    const isKey = typeof key === 'string' || typeof key === 'number';
    if (of === order && isKey && Number.isSafeInteger(id)) return { key, id: id as number };
  } catch {
    // Refused below.
  }
  throw refused('next', 'what an answer to the same search gave');
}

function readOrder(text: string, time: SearchOrder): { sort: SearchOrder; descending: boolean } {
  const descending = text.startsWith('-');
  const value = descending ? text.slice(1) : text;
  const sort = value === 'date' ? time : oneOf(searchOrders, { name: 'sort', value });
  return { sort, descending };
}

function oneOf<Value extends string>(
  values: readonly Value[],
  { name, value }: { readonly name: string; readonly value: string },
): Value {
  const found = values.find((one) => one === value);
  if (found === undefined) throw refused(name, values.join(', '));
  return found;
}

function listOf(parameters: URLSearchParams, name: string): string[] {
  const values = parameters.getAll(name).flatMap((value) => value.split(','));
  const list = [...new Set(values.map((value) => value.trim().toLowerCase()).filter((value) => value !== ''))];
  if (list.length > maxTypes || list.some((value) => value.length > maxTextLength)) {
    throw refused(name, `at most ${maxTypes} types of at most ${maxTextLength} characters`);
  }
  return list;
}

function readText(parameters: URLSearchParams, name: string): string | undefined {
  const text = parameters.get(name) ?? '';
  if (text.length > maxTextLength) throw refused(name, `at most ${maxTextLength} characters`);
  return text === '' ? undefined : text;
}

function requireMediaType(type: string): string {
  if (!type.includes('/')) throw refused('type', 'a short name of /v2/_millpond/types, or a media type');
  return type;
}

function readDigest(text: string | null): string | undefined {
  if (text === null || text === '') return undefined;
  const lower = text.toLowerCase();
  if (!/^(?:sha(?:256|512):)?[0-9a-f]{6,128}$/.test(lower))
    throw refused('digest', 'a digest, or 6 digits of one or more');
  return lower;
}

const sizes: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

function readSize(parameters: URLSearchParams, name: string): number | undefined {
  const text = parameters.get(name);
  if (text === null || text === '') return undefined;
  const [, number = '', unit = ''] = /^(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]{0,3})$/i.exec(text) ?? [];
  const factor = sizes[unit.toLowerCase()];
  if (number === '' || factor === undefined) throw refused(name, 'bytes, or a size such as 100MiB');
  return Math.round(Number(number) * factor);
}

const durations: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7, w: 6.048e8 };

/** A moment, or how long ago. */
function readTime(
  parameters: URLSearchParams,
  { name, nowMs }: { readonly name: string; readonly nowMs: number },
): number | undefined {
  const text = parameters.get(name);
  if (text === null || text === '') return undefined;
  const [, number, unit = ''] = /^(\d{1,9})([smhdw])$/.exec(text) ?? [];
  if (number !== undefined) return nowMs - Number(number) * (durations[unit] ?? 0);
  const at = /^\d{4}-\d{2}-\d{2}(?:T[\d:.]+(?:Z|[+-]\d{2}:\d{2})?)?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isFinite(at)) throw refused(name, 'a moment such as 2026-11-30T12:00:00Z, or a time ago such as 7d');
  return at;
}

function readSwitch(parameters: URLSearchParams, name: string): boolean {
  const text = parameters.get(name) ?? 'false';
  if (text === 'false' || text === '0') return false;
  if (text === '' || text === 'true' || text === '1') return true;
  throw refused(name, 'true, false');
}

function readLimit(text: string | null): number {
  if (text === null) return defaultResults;
  if (!/^\d{1,9}$/.test(text)) throw refused('n', `a number up to ${maxResults}`);
  return Math.min(Number(text), maxResults);
}

function refused(name: string, accepted: string): RegistryError {
  return new RegistryError('bad-parameter', `the parameter ${name} cannot be read; accepted: ${accepted}`, {
    detail: { parameter: name },
  });
}
