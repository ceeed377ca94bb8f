const selectingParameters: ReadonlySet<string> = new Set(['ns', 'oci-ref-name']);

/** A query string without the parameters that select the upstream; everything else stays as it was written. */
export function withoutSelection(query: string): string {
  return query
    .split('&')
    .filter((part) => part !== '' && !selectingParameters.has(parameterName(part)))
    .join('&');
}

/** The parameters of a query string that select the upstream, as they were written. */
export function onlySelection(query: string): string {
  return query
    .split('&')
    .filter((part) => selectingParameters.has(parameterName(part)))
    .join('&');
}

/**
 * The query (without `?`) of the `rel="next"` target of a `Link` header (RFC 8288), or of the first one that does not say what
 * it is: registries link to nothing else. Its path and host are ignored; a token in it is opaque and preserved exactly. Reads
 * the header once, from start to end.
 */
export function nextQuery(header: string | undefined): string | undefined {
  let unnamed: string | undefined;
  for (const { target, relations } of linksOf(header ?? '')) {
    if (relations?.includes('next') === true) return queryOf(target);
    if (relations === undefined) unnamed ??= target;
  }
  return unnamed === undefined ? undefined : queryOf(unnamed);
}

function queryOf(target: string): string | undefined {
  const [beforeFragment = ''] = target.split('#', 1);
  const question = beforeFragment.indexOf('?');
  const query = question === -1 ? '' : withoutSelection(beforeFragment.slice(question + 1));
  return query === '' ? undefined : query;
}

interface Link {
  readonly target: string;
  /** The first `rel`, in lower case, at its spaces; `undefined` where there is none. */
  readonly relations: readonly string[] | undefined;
}

/** The separator of the parameters of a link. */
const spaces = new Set([' ', '\t']);

function* linksOf(header: string): Generator<Link> {
  let position = header.indexOf('<');
  while (position !== -1) {
    const end = header.indexOf('>', position);
    if (end === -1) return;
    const target = header.slice(position + 1, end);
    const { parameters, next } = parametersFrom(header, end + 1);
    const relation = parameters.find(([name]) => name.toLowerCase() === 'rel');
    yield { target, relations: relation?.[1].toLowerCase().split(' ') };
    position = header.indexOf('<', next);
  }
}

/** The parameters from a position on: `; name=value; name="value"; name`. @returns also where they end */
function parametersFrom(
  header: string,
  start: number,
): { parameters: readonly (readonly [name: string, value: string])[]; next: number } {
  const parameters: (readonly [string, string])[] = [];
  let position = skipSpaces(header, start);
  while (header[position] === ';') {
    const nameStart = skipSpaces(header, position + 1);
    const nameEnd = endOfToken(header, nameStart);
    position = skipSpaces(header, nameEnd);
    let value = '';
    if (header[position] === '=') {
      position = skipSpaces(header, position + 1);
      const valueEnd = header[position] === '"' ? endOfQuoted(header, position + 1) : endOfToken(header, position);
      value = header[position] === '"' ? header.slice(position + 1, valueEnd) : header.slice(position, valueEnd);
      position = skipSpaces(header, header[position] === '"' ? valueEnd + 1 : valueEnd);
    }
    parameters.push([header.slice(nameStart, nameEnd), value]);
  }
  return { parameters, next: position };
}

function skipSpaces(text: string, start: number): number {
  let position = start;
  while (spaces.has(text[position] ?? '')) position += 1;
  return position;
}

/** Where a name, or a value without quotation marks, ends. */
function endOfToken(text: string, start: number): number {
  let position = start;
  while (position < text.length && !' \t=;,"'.includes(text[position]!)) position += 1;
  return position;
}

/** Where the closing quotation mark is, or the end of the text. */
function endOfQuoted(text: string, start: number): number {
  let position = start;
  while (position < text.length && text[position] !== '"') position += text[position] === '\\' ? 2 : 1;
  return Math.min(position, text.length);
}

function parameterName(part: string): string {
  const [name = ''] = part.split('=', 1);
  try {
    return decodeURIComponent(name).toLowerCase();
  } catch {
    return name;
  }
}
