import { createRequire } from 'node:module';
import type { SemVer } from 'semver';
import { matchesGlob } from './glob.ts';
import { isTag } from './reference.ts';

const require = createRequire(import.meta.url);
// Loaded with the first version or range: most mirrors have none, and it is 47 files.
const semver = () => require('semver') as typeof import('semver');

/**
 * Selects tags of a repository: a tag; a pattern, in which `*` matches any characters; or a version range such as
 * `>=1.2 <2`, `~1.4` or `^2`.
 */
export interface TagSelector {
  readonly text: string;
  readonly kind: 'tag' | 'pattern' | 'range';
  matches(tag: string): boolean;
}

/** Parses a selector. @returns `undefined` if the text is not one */
export function parseTagSelector(text: string): TagSelector | undefined {
  if (/^[<>=~^]|\s|\|\|/.test(text)) {
    const range = semver().validRange(text);
    if (range === null) return undefined;
    return {
      text,
      kind: 'range',
      matches: (tag) => {
        const version = versionOf(tag);
        return version !== undefined && semver().satisfies(version, range);
      },
    };
  }
  if (text.includes('*')) {
    if (!/^[\w.*-]{1,200}$/.test(text)) return undefined;
    return { text, kind: 'pattern', matches: (tag) => matchesGlob(text, tag) };
  }
  return isTag(text) ? { text, kind: 'tag', matches: (tag) => tag === text } : undefined;
}

/**
 * The tags that any of the selectors matches, newest first: versions by their order, then the others by their text.
 * @param options.limit maximum number of tags
 */
export function selectTags(
  tags: Iterable<string>,
  selectors: readonly TagSelector[],
  { limit = Number.POSITIVE_INFINITY }: { readonly limit?: number | undefined } = {},
): string[] {
  const chosen = [...new Set(tags)].filter((tag) => selectors.some((selector) => selector.matches(tag)));
  return chosen.sort(newestFirst).slice(0, limit);
}

/**
 * The version of a tag: with or without a `v`, `1.4` as `1.4.0`. A tag cannot contain a plus: build metadata follows `_`,
 * as Helm writes it (`1.4.0_up2.1` for `1.4.0+up2.1`), always after all three numbers.
 */
function versionOf(tag: string): SemVer | undefined {
  const [, major, minor, patch, before = '', build] =
    /^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?((?:-[a-zA-Z0-9.-]+)?)(?:_([a-zA-Z0-9.-]+))?$/.exec(tag) ?? [];
  if (major === undefined || (build !== undefined && patch === undefined)) return undefined;
  const numbers = [major, minor ?? 0, patch ?? 0].map(Number).join('.');
  const text = `${numbers}${before}${build === undefined ? '' : `+${build}`}`;
  return semver().parse(text, { loose: true }) ?? undefined;
}

function newestFirst(one: string, other: string): number {
  const [first, second] = [versionOf(one), versionOf(other)];
  if (first && second) return semver().compareBuild(second, first, true) || (one < other ? 1 : -1);
  if (first || second) return first ? -1 : 1;
  return one < other ? 1 : -1;
}
