import type { Config } from './config.ts';
import { nameInForce } from './in-force.ts';
import { formatPath } from './problems.ts';
import { jsonSchema } from './schema.ts';
import { type ConfigPath, fixedKeys, type SchemaNode } from './schema-node.ts';
import { Secret } from './secret.ts';

/**
 * Determines which parts of a new configuration apply while the program runs.
 * @returns `config`: the wanted one, with what is only read at the start as it is now; `left`: the keys of that in which
 *   the two differ, such as `cache.dir`
 */
export function withoutRestart(running: Config, wanted: Config): { config: Config; left: string[] } {
  const left: string[] = [];
  let config: object = wanted;
  for (const [path, node] of fixedKeys(jsonSchema())) {
    if (!node['x-restart']) continue;
    const place = [...path.slice(0, -1), nameInForce(path.at(-1)!, node)];
    const now = valueAt(running, place);
    if (isSame(now, valueAt(wanted, place))) continue;
    left.push(path.join('.'));
    config = withValue(config, place, now);
  }
  return { config: config as Config, left };
}

/**
 * The keys in which two configurations differ, such as `cache.tagTtl` and `upstreams."docker.io".auth.password`.
 * @returns also `undefined` between them, wherever a caller with other work may pause
 */
export function changedKeys(one: Config, other: Config): Generator<string | undefined> {
  return differences({ node: jsonSchema(), one, other }, []);
}

function* differences(
  { node, one, other }: { node: SchemaNode; one: unknown; other: unknown },
  path: ConfigPath,
): Generator<string | undefined> {
  if (one === other) return;
  const { properties, additionalProperties: named } = node;
  if (properties && one && other) {
    for (const [key, child] of Object.entries(properties)) {
      const name = nameInForce(key, child);
      yield* differences({ node: child, one: valueAt(one, [name]), other: valueAt(other, [name]) }, [...path, key]);
    }
  } else if (typeof named === 'object') {
    const tables = [one, other].map(
      (table) => new Map((table as { name: string }[]).map((entry) => [entry.name, entry])),
    );
    const [before, after] = tables as [Map<string, object>, Map<string, object>];
    for (const name of new Set([...before.keys(), ...after.keys()])) {
      yield* differences({ node: named, one: before.get(name), other: after.get(name) }, [...path, name]);
      yield undefined;
    }
  } else if (!isSame(one, other)) yield formatPath(path);
}

/** Whether two values of configurations mean the same; secrets are compared by what they hold. */
function isSame(one: unknown, other: unknown): boolean {
  if (one instanceof Secret || other instanceof Secret)
    return one instanceof Secret && other instanceof Secret && one.reveal() === other.reveal();
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null) return one === other;
  const keys = new Set([...Object.keys(one), ...Object.keys(other)]);
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  return [...keys].every((key) => isSame(valueAt(one, [key]), valueAt(other, [key])));
}

function valueAt(data: unknown, place: readonly string[]): unknown {
  return place.reduce<unknown>((around, key) => (around as Record<string, unknown> | undefined)?.[key], data);
}

function withValue(data: object, [key, ...rest]: readonly string[], value: unknown): object {
  const below = rest.length === 0 ? value : withValue(valueAt(data, [key!]) as object, rest, value);
  return { ...data, [key!]: below };
}
