/** A glob token: `char` matches itself, `part` anything but slashes, `any` anything, `parts` any whole segments. */
type Token = { readonly kind: 'char'; readonly char: string } | { readonly kind: 'part' | 'any' | 'parts' };

/**
 * Parses a pattern for repository names: `*` matches any characters of one segment, `**` anything, and a leading or
 * middle `**` followed by `/` any number of whole segments.
 * @returns a function that matches names in linear time, however many asterisks the pattern has
 */
export function repositoryGlob(glob: string): (name: string) => boolean {
  const tokens = tokensOf(glob);
  return (name) => {
    let states = reach(tokens, [0]);
    for (const char of name) {
      states = reach(
        tokens,
        [...states].flatMap((state) => step(tokens, state, char)),
      );
      if (states.size === 0) return false;
    }
    return states.has(2 * tokens.length);
  };
}

function tokensOf(glob: string): Token[] {
  const tokens: Token[] = [];
  for (let position = 0; position < glob.length; position += 1) {
    if (glob.startsWith('**/', position)) tokens.push({ kind: 'parts' });
    else if (glob.startsWith('**', position)) tokens.push({ kind: 'any' });
    else tokens.push(glob[position] === '*' ? { kind: 'part' } : { kind: 'char', char: glob[position]! });
    position += tokens.at(-1)!.kind === 'parts' ? 2 : tokens.at(-1)!.kind === 'any' ? 1 : 0;
  }
  return tokens;
}

// A state is twice the number of tokens already matched, plus one while inside the segments that a `**/` matches.
function reach(tokens: readonly Token[], states: readonly number[]): Set<number> {
  const reached = new Set<number>();
  for (let state of states) {
    while (!reached.has(state)) {
      reached.add(state);
      const token = tokens[state >> 1];
      if (state % 2 === 1 || token === undefined || token.kind === 'char') break;
      // Every kind of asterisk may match nothing.
      state += 2;
    }
  }
  return reached;
}

function step(tokens: readonly Token[], state: number, char: string): number[] {
  const token = tokens[state >> 1];
  switch (token?.kind) {
    case undefined:
      return [];
    case 'char':
      return token.char === char ? [state + 2] : [];
    case 'part':
      return char === '/' ? [] : [state];
    case 'any':
      return [state];
    case 'parts': {
      const within = state | 1;
      return char === '/' ? [within, within + 1] : [within];
    }
    default:
      return token satisfies never;
  }
}

/**
 * Whether a text matches a pattern in which `*` matches any characters. Searches the fixed parts in order, so matching is
 * linear in the length of the text.
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
