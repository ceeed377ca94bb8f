/** The part of a list that a client asks for (distribution-spec, "Listing Tags"). */
export interface PageQuery {
  /** The page begins behind this name; '' for the first one. */
  readonly last: string;
  /** Most names on it; `undefined`: not stated. */
  readonly n: number | undefined;
}

/** Reads `n` and `last`; what is no number counts as not stated. */
export function readPageQuery(parameters: URLSearchParams): PageQuery {
  const n = parameters.get('n') ?? '';
  return { last: parameters.get('last') ?? '', n: /^\d{1,9}$/.test(n) ? Number(n) : undefined };
}

/** `Link` to the page behind a name, with the other parameters as they were sent: name and value of the header. */
export function nextPageLink(
  path: string,
  { parameters, last }: { readonly parameters: URLSearchParams; readonly last: string },
): string[] {
  const next = new URLSearchParams(parameters);
  next.set('last', last);
  return ['Link', `<${path}?${next.toString()}>; rel="next"`];
}
