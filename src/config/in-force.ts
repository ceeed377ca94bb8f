import { resolve } from 'node:path';
import type { RedisLocation } from './redis-url.ts';
import type { SchemaNode } from './schema-node.ts';
import type { Secret } from './secret.ts';
import type { UnitOf } from './units.ts';

type Leaf = string | number | boolean | null | undefined | Secret | RedisLocation;

type NameInForce<Key, Value> = Key extends string ? `${Key}${UnitOf<Value>}` : Key;

/**
 * A checked value as the program uses it: the keys are those of the schema, and the key of a quantity ends in its unit
 * (`tagTtl` is `tagTtlMs`).
 */
export type InForce<T> = T extends Leaf
  ? T
  : T extends readonly (infer Entry)[]
    ? readonly InForce<Entry>[]
    : { readonly [Key in keyof T as NameInForce<Key, T[Key]>]: InForce<T[Key]> };

/**
 * Puts the units into the names, and makes paths absolute.
 * @param options.folder relative paths count from here
 */
export function inForce<T>(checked: T, { node, folder }: { readonly node: SchemaNode; readonly folder: string }) {
  return convert(checked, node, folder) as InForce<T>;
}

/** The key of a setting in the configuration in effect. */
export function nameInForce(key: string, node: SchemaNode | undefined): string {
  return `${key}${node?.['x-unit'] ?? ''}`;
}

function convert(value: unknown, node: SchemaNode | undefined, folder: string): unknown {
  if (typeof value === 'string') return node?.['x-form'] === 'path' ? resolve(folder, value) : value;
  if (Array.isArray(value)) return value.map((entry) => convert(entry, node?.items, folder));
  if (typeof value !== 'object' || value === null || node?.properties === undefined) return value;
  const { properties } = node;
  return Object.fromEntries(
    Object.entries(value).map(([key, held]) => [
      nameInForce(key, properties[key]),
      convert(held, properties[key], folder),
    ]),
  );
}
