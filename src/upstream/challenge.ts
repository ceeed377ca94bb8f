/** One challenge of a `WWW-Authenticate` header; scheme and parameter names in lower case. */
export interface Challenge {
  readonly scheme: string;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Longer headers are truncated: no challenge of a registry comes near. */
const maxHeaderLength = 8192;

// A token, alone (a scheme) or with a value (a parameter). RFC 9110, 11.2 and 5.6.4; some write single quotation marks.
const piecePattern = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^'"]*)'|([^\s,"]*)))?/g;

/** Parses a `WWW-Authenticate` header (RFC 9110, 11.6.1), which may have several challenges. */
export function parseChallenges(header: string | undefined): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  for (const [, name = '', quoted, inSingle, bare] of (header ?? '').slice(0, maxHeaderLength).matchAll(piecePattern)) {
    const value = quoted?.replaceAll(/\\(.)/g, '$1') ?? inSingle ?? bare;
    const current = challenges.at(-1);
    if (value === undefined) challenges.push({ scheme: name.toLowerCase(), parameters: new Map() });
    else if (current?.parameters.has(name.toLowerCase()) === false) current.parameters.set(name.toLowerCase(), value);
  }
  return challenges;
}
