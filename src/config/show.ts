import { nameInForce } from './in-force.ts';
import type { LoadedConfig } from './load.ts';
import { formatOrigin } from './origins.ts';
import type { RedisLocation } from './redis-url.ts';
import { jsonSchema } from './schema.ts';
import { type ConfigPath, type SchemaNode, schemaNode } from './schema-node.ts';
import { formatBytes, formatDuration } from './units.ts';
import type { ListenAddress } from './value-kinds.ts';

/** A value in effect. */
export interface Setting {
  readonly path: ConfigPath;
  /** As it would be written in a file; secrets are `[hidden]`. */
  readonly value: string | number | boolean | null | readonly string[];
  readonly origin: string;
}

/** Every value in effect with its origin. Absent sections (no TLS, no credentials) are left out. */
export function listSettings({ config, origins }: Pick<LoadedConfig, 'config' | 'origins'>): readonly Setting[] {
  const root = jsonSchema();
  return [...settingsOf(root, config, [])].map(({ path, value, writtenAt }) => {
    const places = [...writtenAt, ...inherited(path, root)];
    const origin = places.map((place) => origins.of(place)).find(({ kind }) => kind !== 'default');
    return { path, value, origin: formatOrigin(origin ?? { kind: 'default' }) };
  });
}

interface Found {
  readonly path: ConfigPath;
  readonly value: Setting['value'];
  /** Where it may have been written for itself, nearest first. */
  readonly writtenAt: readonly ConfigPath[];
}

/** The values below one place of the configuration in effect, in the order of the schema. */
function* settingsOf(node: SchemaNode, held: object, path: ConfigPath): Generator<Found> {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const value: unknown = (held as Readonly<Record<string, unknown>>)[nameInForce(key, child)];
    yield* settingsAt(child, value, [...path, key]);
  }
}

function* settingsAt(node: SchemaNode, value: unknown, path: ConfigPath): Generator<Found> {
  const { properties, items, additionalProperties: named } = node;
  if (value === undefined) {
    if (!properties && node.type?.includes('null')) yield { path, value: null, writtenAt: [path] };
  } else if (properties) {
    yield* settingsOf(node, value as object, path);
  } else if (typeof named === 'object') {
    for (const entry of value as { name: string }[]) yield* settingsOf(named, entry, [...path, entry.name]);
  } else if (items?.properties) {
    for (const [index, entry] of (value as object[]).entries()) {
      const place = [...path, index];
      // An entry that is written as a text alone stands for one of its keys.
      const isShort = items.type?.includes('string') ?? false;
      for (const found of settingsOf(items, entry, place))
        yield isShort ? { ...found, writtenAt: [...found.writtenAt, place] } : found;
    }
  } else {
    yield { path, value: shown(value, node), writtenAt: [path] };
  }
}

/** The places that a key takes its value from where it is not written, nearest first. */
function inherited(path: ConfigPath, root: SchemaNode): ConfigPath[] {
  const from = schemaNode(root, path)?.['x-inherits'];
  if (from === undefined) return [];
  const place = from.split('.').map((step, index) => (step === '*' ? path[index]! : step));
  return [place, ...inherited(place, root)];
}

/** As it would be written in a file. */
function shown(value: unknown, { 'x-unit': unit, 'x-form': form }: SchemaNode): Setting['value'] {
  if (unit !== undefined) return unit === 'Ms' ? formatDuration(value as number) : formatBytes(value as number);
  switch (form) {
    case 'address':
      return formatListen(value as ListenAddress);
    case 'redis':
      return (value as RedisLocation).shown;
    case 'secret':
      return String(value);
    case 'path':
    case undefined:
      return value as Setting['value'];
    default:
      return form satisfies never;
  }
}

/** The settings as YAML, each followed by its origin. It is a valid file once the passwords are restored. */
export function showYaml(settings: readonly Setting[]): string {
  const lines: string[] = [];
  let open: ConfigPath = [];
  // The dash of a list's entry stands before its first key.
  let dash = '';
  const push = (depth: number, text: string): void => {
    lines.push(dash === '' ? `${'  '.repeat(depth)}${text}` : `${'  '.repeat(depth - 1)}${dash}${text}`);
    dash = '';
  };
  for (const { path, value, origin } of settings) {
    const sections = path.slice(0, -1);
    let depth = 0;
    while (depth < sections.length && sections[depth] === open[depth]) depth++;
    for (; depth < sections.length; depth++) {
      const section = sections[depth]!;
      if (typeof section === 'number') dash = '- ';
      else push(depth, `${yamlScalar(section)}:`);
    }
    open = sections;
    push(sections.length, `${yamlScalar(String(path.at(-1)!))}: ${yamlValue(value)} # ${oneLine(origin)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** The settings as one JSON object: `config` nested as in a file, `origins` by the path's keys. */
export function showJson(settings: readonly Setting[], file: string | undefined): string {
  const config: Record<string | number, unknown> = {};
  for (const { path, value } of settings) {
    let section = config;
    for (const [depth, key] of path.slice(0, -1).entries()) {
      section = (section[key] ??= typeof path[depth + 1] === 'number' ? [] : {}) as Record<string | number, unknown>;
    }
    section[path.at(-1)!] = value;
  }
  const origins = settings.map(({ path, origin }) => ({ path, origin }));
  return `${JSON.stringify({ file: file ?? null, config, origins }, undefined, 2)}\n`;
}

function formatListen(listen: ListenAddress): string {
  const { host = '', port } = listen;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function yamlValue(value: Setting['value']): string {
  if (typeof value === 'string') return yamlScalar(value);
  return Array.isArray(value) ? `[${value.map(yamlScalar).join(', ')}]` : String(value);
}

/** Plain where that is surely read back as the same text, else quoted; JSON's quoting is YAML's too. */
function yamlScalar(text: string): string {
  const plain = /^[A-Za-z0-9./_][A-Za-z0-9./_@:+-]*[A-Za-z0-9/_]$|^[A-Za-z_]$/.test(text);
  const ambiguous = /^(?:true|false|null|yes|no|on|off|[0-9.eE+_-]+|0[xo].*|\.inf|\.nan)$/i.test(text);
  return plain && !ambiguous ? text : JSON.stringify(text);
}

function oneLine(text: string): string {
  return text.replace(/[\r\n]/g, ' ');
}
