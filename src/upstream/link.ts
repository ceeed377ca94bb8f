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
 * The query (without `?`) of the `rel="next"` target of a `Link` header (RFC 8288). Its path and host are of no interest;
 * a token in it is opaque and kept to the letter.
 */
export function nextQuery(header: string | undefined): string | undefined {
  const links = /<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)/g;
  for (const [, target = '', parameters = ''] of (header ?? '').matchAll(links)) {
    const relation = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i.exec(parameters);
    const names = (relation?.[1] ?? relation?.[2] ?? '').toLowerCase().split(/\s+/);
    if (!names.includes('next')) continue;
    const [beforeFragment = ''] = target.split('#', 1);
    const question = beforeFragment.indexOf('?');
    const query = question === -1 ? '' : withoutSelection(beforeFragment.slice(question + 1));
    return query === '' ? undefined : query;
  }
  return undefined;
}

function parameterName(part: string): string {
  const [name = ''] = part.split('=', 1);
  try {
    return decodeURIComponent(name).toLowerCase();
  } catch {
    return name;
  }
}
