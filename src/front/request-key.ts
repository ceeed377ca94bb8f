import { hash } from 'node:crypto';

/** Longer ones are not kept: no real client sends them, and what is kept has to stay small. */
const maxKeyCharacters = 2048;

/** The head of a request, as it was sent. */
export interface RequestHead {
  readonly method: string;
  readonly url: string;
  /** Name, value, name, value. */
  readonly rawHeaders: readonly string[];
}

/** The parts of a request that the short way reads. */
export interface ReadRequest {
  /** Everything of a request that decides its answer, and nothing else. */
  readonly key: string;
  readonly userAgent: string | undefined;
  readonly method: 'GET' | 'HEAD';
  readonly url: string;
  readonly host: string | undefined;
  /** The headers beside `Host` and `Accept` that decide the answer, by lower-case name; `undefined` where one came twice. */
  readonly deciding: Readonly<Record<string, string>> | undefined;
}

/** Shared by nearly all requests, which have none. */
const noHeaders: Readonly<Record<string, string>> = {};

/**
 * Reads a request for the short way, in one pass over its headers.
 * @returns `undefined` where the request has to be decided each time, such as one of another replica
 */
export function readRequest({ method, url, rawHeaders }: RequestHead): ReadRequest | undefined {
  if ((method !== 'GET' && method !== 'HEAD') || !url.startsWith('/v2/')) return undefined;
  let host: string | undefined;
  let accept = '';
  let others = '';
  let deciding: Record<string, string> | undefined;
  let hasTwice = false;
  let hasCredentials = false;
  let userAgent: string | undefined;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    const value = rawHeaders[at + 1]!;
    switch (meaningOf(name)) {
      case 'host':
        // The application refuses two of them.
        if (host !== undefined) return undefined;
        host = value;
        break;
      case 'accept':
        accept = accept === '' ? value : `${accept}, ${value}`;
        break;
      case 'user-agent':
        userAgent ??= value;
        break;
      case 'deciding':
        others += `\n${name.toLowerCase()}:${value}`;
        deciding ??= {};
        hasTwice ||= name.toLowerCase() in deciding;
        deciding[name.toLowerCase()] = value;
        break;
      case 'refused':
        return undefined;
      case 'credentials':
        // The application refuses two of them.
        if (hasCredentials) return undefined;
        hasCredentials = true;
        // They are as long as they like, and belong into no memory where they are not needed.
        others += `\nauthorization:${hash('sha256', value, 'base64')}`;
        break;
      case 'nothing':
        break;
      default:
    }
  }
  // No header, URL or method contains a line feed: the parts cannot run into one another.
  const key = `${method} ${url}\n${host ?? ''}\n${accept}${others}`;
  if (key.length > maxKeyCharacters) return undefined;
  return { key, userAgent, method, url, host, deciding: hasTwice ? undefined : (deciding ?? noHeaders) };
}

type Meaning = 'host' | 'accept' | 'user-agent' | 'deciding' | 'credentials' | 'refused' | 'nothing';

const meaningByName: Readonly<Record<string, Meaning>> = {
  host: 'host',
  accept: 'accept',
  'user-agent': 'user-agent',
  range: 'deciding',
  'if-range': 'deciding',
  'if-none-match': 'deciding',
  'oci-ref-name': 'deciding',
  // The caller decides what may be read.
  authorization: 'credentials',
  'proxy-authorization': 'refused',
  cookie: 'refused',
  // The mirrors that the request has come through, of which one may be this one.
  'cdn-loop': 'deciding',
  // A body, or another protocol.
  'content-length': 'refused',
  'transfer-encoding': 'refused',
  expect: 'refused',
  upgrade: 'refused',
};

/** By length: most headers have no meaning here, and each header of each request is looked up. */
const byLength: readonly (readonly (readonly [string, Meaning])[] | undefined)[] = Array.from(
  { length: 24 },
  (_, length) => {
    const names = Object.entries(meaningByName).filter(([name]) => name.length === length);
    return names.length === 0 ? undefined : names;
  },
);

function meaningOf(name: string): Meaning {
  const candidates = byLength[name.length];
  if (candidates !== undefined) {
    const lower = name.toLowerCase();
    for (const [known, meaning] of candidates) if (known === lower) return meaning;
  }
  // What replicas tell one another.
  return name.length > 9 && /^millpond-/i.test(name) ? 'refused' : 'nothing';
}
