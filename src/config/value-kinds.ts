import { parseRedisUrl, type RedisLocation } from './redis-url.ts';
import { hidden, Secret, withoutSecrets } from './secret.ts';
import {
  acceptedDurations,
  acceptedSizes,
  durationPattern,
  parseBytes,
  parseDurationMs,
  type Quantity,
  sizePattern,
  type Unit,
} from './units.ts';

/** A value was refused; the message says what was found and what is accepted, and shows no secret. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}

/** One kind of scalar a configuration may hold. */
export interface ValueKind<T> {
  /** How it looks in JSON Schema. */
  readonly jsonSchema: Readonly<Record<string, unknown>>;
  /** Turns what the YAML holds into the value. @throws ValueError */
  parse(found: unknown): T;
}

/** An address to listen on. */
export interface ListenAddress {
  /** `undefined`: every address of this machine. */
  readonly host: string | undefined;
  readonly port: number;
}

/** Longest time a Node timer can wait, in milliseconds (2^31 − 1). */
const longestTimerMs = 2_147_483_647;

const notThePassword = `found ${hidden}, which "config show" prints in place of a password; write the password itself, or name a passwordFile`;

/** How a value that was found is shown in a message, without what may be a secret in it. */
export function describeFound(found: unknown): string {
  if (found === undefined || found === null) return 'nothing';
  if (Array.isArray(found)) return 'a list';
  if (typeof found === 'object') return 'a mapping';
  if (typeof found !== 'string') return JSON.stringify(found);
  const shown = withoutSecrets(found);
  return JSON.stringify(shown.length > 60 ? `${shown.slice(0, 60)}…` : shown);
}

/** A size; the value is in bytes, of a rate in bytes a second. */
export function size<U extends 'Bytes' | 'BytesPerSecond' = 'Bytes'>(
  options: { readonly minBytes?: number; readonly maxBytes?: number; readonly unit?: U } = {},
): ValueKind<Quantity<U>> {
  const { minBytes = 0, maxBytes = Number.MAX_SAFE_INTEGER, unit = 'Bytes' } = options;
  return {
    jsonSchema: quantitySchema(sizePattern, { unit, takesZero: minBytes === 0 }),
    parse(found) {
      const bytes = quantityText(found, parseBytes);
      if (bytes === undefined) throw refusal(found, acceptedSizes);
      if (bytes < minBytes) throw refusal(found, `a size of at least ${minBytes} bytes`);
      if (bytes > maxBytes) throw refusal(found, `a size of at most ${maxBytes} bytes`);
      return bytes;
    },
  };
}

/** A duration; the value is in milliseconds. */
export function duration(
  options: { readonly minMs?: number; readonly maxMs?: number; readonly timer?: true } = {},
): ValueKind<Quantity<'Ms'>> {
  const { minMs = 0, maxMs = Number.POSITIVE_INFINITY, timer } = options;
  return {
    jsonSchema: quantitySchema(durationPattern, { unit: 'Ms', takesZero: minMs === 0 }),
    parse(found) {
      const durationMs = quantityText(found, parseDurationMs);
      if (durationMs === undefined) throw refusal(found, acceptedDurations);
      if (durationMs < minMs) throw refusal(found, `a duration of at least ${minMs}ms`);
      if (durationMs > maxMs) throw refusal(found, `a duration of at most ${maxMs}ms`);
      if (timer && durationMs > longestTimerMs) throw refusal(found, 'a duration of at most 24d');
      return durationMs;
    },
  };
}

/** `true` or `false`. */
export const flag: ValueKind<boolean> = {
  jsonSchema: { type: 'boolean' },
  parse(found) {
    if (typeof found !== 'boolean') throw refusal(found, 'true or false');
    return found;
  },
};

/** One of a few words. */
export function oneOf<const T extends string>(words: readonly T[]): ValueKind<T> {
  return {
    jsonSchema: { type: 'string', enum: words },
    parse(found) {
      const word = words.find((candidate) => candidate === found);
      if (word === undefined) throw refusal(found, words.join(', '));
      return word;
    },
  };
}

/** A whole number within bounds, both included. */
/** Another kind, or `auto`. */
export function orAuto<T>(kind: ValueKind<T>): ValueKind<T | 'auto'> {
  return {
    jsonSchema: { anyOf: [{ const: 'auto' }, kind.jsonSchema] },
    parse: (found) => (found === 'auto' ? found : kind.parse(found)),
  };
}

export function integer(minimum: number, maximum: number): ValueKind<number> {
  return {
    jsonSchema: { type: 'integer', minimum, maximum },
    parse(found) {
      if (!Number.isInteger(found) || (found as number) < minimum || (found as number) > maximum) {
        throw refusal(found, `a whole number from ${minimum} to ${maximum}`);
      }
      return found as number;
    },
  };
}

/** A text that is not empty; `what` names it in messages. */
export function text(what: string): ValueKind<string> {
  return {
    jsonSchema: { type: 'string', minLength: 1 },
    parse(found) {
      if (typeof found !== 'string' || found === '') throw refusal(found, what);
      return found;
    },
  };
}

/** The path of a file or folder. */
export function path(what: 'file' | 'folder'): ValueKind<string> {
  const kind = text(`the path of a ${what}`);
  return { ...kind, jsonSchema: { ...kind.jsonSchema, 'x-form': 'path' } };
}

/** A text that no message and no log ever shows. */
export const secret: ValueKind<Secret> = {
  jsonSchema: { type: 'string', minLength: 1, 'x-form': 'secret' },
  parse(found) {
    if (typeof found !== 'string' || found === '') {
      throw new ValueError('accepted: a text that is not empty (a password of digits only needs quotes)');
    }
    if (found === hidden) throw new ValueError(notThePassword);
    return new Secret(found);
  },
};

/** `null` or the name of a registry. */
export const optionalHostName: ValueKind<string | null> = {
  jsonSchema: { type: ['string', 'null'] },
  parse: (found) => (found === null ? null : hostName.parse(found)),
};

/** A registry's name: host, or host and port, lower-cased. */
export const hostName: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    const name = typeof found === 'string' ? found.toLowerCase() : '';
    if (!isHostName(name)) throw refusal(found, 'a host name, with a port where it has one, such as reg.example:5443');
    return name;
  },
};

/** The base URL of a registry, without a slash at its end. */
export const registryUrl: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^https?://' },
  parse(found) {
    const url = typeof found === 'string' ? URL.parse(found) : null;
    if (url === null || !/^https?:\/\//i.test(String(found))) {
      throw refusal(found, 'a URL such as https://registry.example or http://10.0.0.5:5000');
    }
    if (url.username !== '' || url.password !== '') {
      throw new ValueError('a URL must not hold credentials; those of an upstream belong under its "auth"');
    }
    if (/[?#]/.test(String(found))) throw refusal(found, 'a URL without a query and without a fragment');
    return url.href.replace(/\/+$/, '');
  },
};

/** Where Redis is; a password in it is never shown. */
export const redisUrl: ValueKind<RedisLocation> = {
  jsonSchema: { type: 'string', pattern: '^rediss?(\\+(sentinel|cluster))?://', 'x-form': 'redis' },
  parse(found) {
    const location = typeof found === 'string' ? parseRedisUrl(found) : undefined;
    if (location?.password?.reveal() === hidden) throw new ValueError(notThePassword);
    if (location !== undefined) return location;
    throw refusal(
      found,
      'redis://[user:password@]host:port[/db], rediss://… for TLS, redis+cluster://host:port,…, redis+sentinel://host:port,…/name',
    );
  },
};

/** The base URL of a Millpond server: only scheme, host and port. */
export const originUrl: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^https?://' },
  parse(found) {
    const url = registryUrl.parse(found);
    const { pathname, hostname, port } = URL.parse(url) ?? {};
    if (pathname !== '/') throw refusal(found, 'a URL without a path, such as http://10.0.0.7:5000');
    if (hostname === '0.0.0.0' || hostname === '[::]' || port === '0') {
      throw refusal(found, 'an address that others can reach, such as http://10.0.0.7:5000');
    }
    return url;
  },
};

/** Patterns over repository names: `*` within one part, `**` over any number of parts. */
export const repositoryPattern: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^[a-z0-9._*-]+(/[a-z0-9._*-]+)*$' },
  parse(found) {
    if (typeof found !== 'string' || !/^[a-z0-9._*-]+(?:\/[a-z0-9._*-]+)*$/.test(found)) {
      throw refusal(found, 'a pattern of repository names, in lower case, such as library/** or bitnami/*');
    }
    return found;
  },
};

/** The name of an image, or a pattern over repositories and tags: which tags is always said, and never a digest. */
export const pinPattern: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^[^@\\s]+:[^/@]+$' },
  parse(found) {
    if (typeof found !== 'string' || !/^[^@\s]+:[^/@]+$/.test(found)) {
      throw refusal(found, 'an image and which tags of it, such as docker.io/library/nginx:1.27 or ghcr.io/org/*:v*');
    }
    return found;
  },
};

/** A pattern over tags: `*` stands for any characters. */
export const tagPattern: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^[A-Za-z0-9_.*-]{1,200}$' },
  parse(found) {
    if (typeof found !== 'string' || !/^[A-Za-z0-9_.*-]{1,200}$/.test(found)) {
      throw refusal(found, 'a pattern of tags, such as v*.*.* or latest (a number needs quotes)');
    }
    return found;
  },
};

/** `host:port`, `[v6 address]:port`, or `:port` for every address. */
export const listenAddress: ValueKind<ListenAddress> = {
  jsonSchema: { type: 'string', pattern: ':[0-9]{1,5}$', 'x-form': 'address' },
  parse(found) {
    const match = /^(?:\[([0-9A-Fa-f:.%]+)\]|([^:[\]/\s]*)):(\d{1,5})$/.exec(typeof found === 'string' ? found : '');
    const port = Number(match?.[3]);
    if (match === null || port > 65_535) {
      throw refusal(found, 'an address and a port, such as 127.0.0.1:5000, [::1]:5000, or :5000 for every address');
    }
    const host = match[1] ?? match[2] ?? '';
    return { host: host === '' ? undefined : host, port };
  },
};

function isHostName(name: string): boolean {
  const match = /^(?:\[[0-9a-f:.]+\]|([a-z0-9](?:[a-z0-9._-]*[a-z0-9])?))(?::(\d{1,5}))?$/.exec(name);
  if (match === null || name.includes('..')) return false;
  return match[2] === undefined || (Number(match[2]) > 0 && Number(match[2]) <= 65_535);
}

/** For editors: a text with a unit, or the number 0, which is the same in every unit. */
function quantitySchema(
  pattern: string,
  { unit, takesZero }: { readonly unit: Unit; readonly takesZero: boolean },
): Readonly<Record<string, unknown>> {
  const written = { type: 'string', pattern };
  return { ...(takesZero ? { anyOf: [written, { const: 0 }] } : written), 'x-unit': unit };
}

function quantityText(found: unknown, parse: (text: string) => number | undefined): number | undefined {
  return typeof found === 'string' || found === 0 ? parse(String(found)) : undefined;
}

function refusal(found: unknown, accepted: string): ValueError {
  return new ValueError(`found ${describeFound(found)}; accepted: ${accepted}`);
}
