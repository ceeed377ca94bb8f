/** Longest text of an entry that is indexed, in characters. */
const maxTextLength = 4_000;

/** The words of a text, each with a space on both sides, in lower case: what the full-text index and a scan both read. */
export function wordsOf(...texts: readonly string[]): string {
  const words =
    texts
      .join(' ')
      .slice(0, maxTextLength)
      .normalize('NFKC')
      .toLowerCase()
      .match(/[\p{L}\p{N}]+/gu) ?? [];
  return words.length === 0 ? ' ' : ` ${words.join(' ')} `;
}

/** A condition on the words of an entry: these words in a row, the last of which may go on. */
export function phrasesOf(query: string): string[] {
  const phrases = query
    .split(/\s+/)
    .map((word) => wordsOf(word).trim())
    .filter((phrase) => phrase !== '');
  return [...new Set(phrases)];
}

/** A facet as one word of the full-text index. @param kind one letter */
export function facet(kind: 't' | 'a' | 'p' | 'd' | 'r', value: string): string {
  const plain = value.toLowerCase().replace(/[^a-y0-9]/g, (char) => `z${char.codePointAt(0)!.toString(36)}z`);
  return `k${kind}${plain}`;
}

/** The facets of a repository: its name, and each end of it, so that `charts/app` finds `docker.io/charts/app`. */
export function repositoryFacets(repository: string): string[] {
  const parts = repository.split('/');
  return parts.map((_, at) => facet('r', parts.slice(at).join('/')));
}

/** The facet of a digest, or of how it begins: at least 6 and at most 64 digits of it count. */
export function digestFacet(text: string): string {
  return facet('d', text.replace(/^sha(?:256|512):/, '').slice(0, 64));
}
