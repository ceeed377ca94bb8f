import type { RequestHead } from './request-key.ts';

/** The first line, with the methods of pulls and a target of the registry alone. */
const requestLine = /^(GET|HEAD) (\/v2\/[\x21-\x7e]*) HTTP\/1\.1$/;
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** A character that the value of a header never has (RFC 9110, 5.5). */
const controlCharacter = /[^\t\x20-\x7e\x80-\xff]/;

/** Node's parser has a limit of its own, and refuses a request that has more. */
const maxHeaders = 100;

/** Headers that say how to go on with the connection; `keep-alive` is what is done anyway. */
const connectionHeader = /^(?:connection|keep-alive|te|trailer|http2-settings|proxy-connection)$/i;

/**
 * Reads the head of a plain request: GET or HEAD, one `Host`, no body. Anything that could be read in more than one way
 * is left to Node's own parser.
 * @param text latin1, one head whole and nothing else
 */
export function readHead(text: string): RequestHead | undefined {
  if (!text.endsWith('\r\n\r\n')) return undefined;
  const [first = '', ...lines] = text.slice(0, -4).split('\r\n');
  const [, method, url] = requestLine.exec(first) ?? [];
  if (method === undefined || url === undefined || lines.length > maxHeaders) return undefined;
  const rawHeaders: string[] = [];
  let hasHost = false;
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon);
    // No folding, and no space before the colon (RFC 9112, 5).
    if (colon === -1 || !headerName.test(name) || controlCharacter.test(line)) return undefined;
    const value = trimmed(line, colon + 1);
    if (connectionHeader.test(name)) {
      if (name.toLowerCase() === 'connection' && value.toLowerCase() === 'keep-alive') continue;
      return undefined;
    }
    hasHost ||= name.length === 4 && name.toLowerCase() === 'host';
    rawHeaders.push(name, value);
  }
  return hasHost ? { method, url, rawHeaders } : undefined;
}

/** The rest of a line without the blanks around it: spaces and tabs alone. */
function trimmed(line: string, from: number): string {
  let start = from;
  let end = line.length;
  while (start < end && isBlank(line.charCodeAt(start))) start += 1;
  while (end > start && isBlank(line.charCodeAt(end - 1))) end -= 1;
  return line.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}
