/**
 * The pattern of a repository's name as a regular expression: `*` stands for any characters of one part, `**` for any at
 * all, and a leading or middle `**` followed by `/` for any number of whole parts.
 */
export function repositoryGlob(glob: string): RegExp {
  const source = glob.replaceAll(/\*\*\/|\*\*|\*|[^*]+/g, (token) => {
    if (token === '**/') return '(?:.*/)?';
    if (token === '**') return '.*';
    if (token === '*') return '[^/]*';
    return token.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&');
  });
  return new RegExp(`^${source}$`);
}

/**
 * Whether a text matches a pattern in which `*` stands for any characters. Looks for the fixed parts in order, so that no
 * pattern takes longer than the text is long.
 */
export function matchesGlob(glob: string, text: string): boolean {
  const [first = '', ...rest] = glob.split('*');
  const last = rest.pop();
  if (last === undefined) return text === first;
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let position = first.length;
  for (const part of rest) {
    const found = text.indexOf(part, position);
    if (found === -1 || found + part.length > end) return false;
    position = found + part.length;
  }
  return true;
}
