import type { Unit } from './units.ts';

/** Somewhere in a configuration: the keys and list positions that lead there. */
export type ConfigPath = readonly (string | number)[];

/** Something that is wrong at one place of a configuration. */
export type SchemaProblem =
  | { readonly kind: 'unknown key'; readonly path: ConfigPath; readonly key: string; readonly known: readonly string[] }
  | { readonly kind: 'wrong type'; readonly path: ConfigPath; readonly expected: 'mapping' | 'list' }
  | { readonly kind: 'refused'; readonly path: ConfigPath; readonly message: string };

/**
 * A node of the JSON Schema, as far as Millpond's own schema uses it. What begins with `x-` is for Millpond itself: all
 * that is to be known of a key is written at the key.
 */
export interface SchemaNode {
  /** Of a quantity: what its name ends in where the program uses it. */
  readonly 'x-unit'?: Unit;
  /** Of a value that is no plain text: how it is written and shown. */
  readonly 'x-form'?: 'path' | 'address' | 'redis' | 'secret';
  /** A change takes effect at the next start. */
  readonly 'x-restart'?: true;
  /** The key that holds where this one is absent, `*` for the same upstream: `upstreams.*.tagTtl`. */
  readonly 'x-inherits'?: string;
  /** The flag and the environment variable that go over the file. */
  readonly 'x-flag'?: string;
  readonly 'x-environment'?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | boolean;
  readonly items?: SchemaNode;
  readonly required?: readonly string[];
}

/** The schema's node at a path; a name of the upstreams' table leads to the one node of all upstreams. */
export function schemaNode(root: SchemaNode, place: ConfigPath): SchemaNode | undefined {
  let node: SchemaNode | undefined = root;
  for (const step of place) {
    if (typeof step === 'number') node = node?.items;
    else if (node?.properties !== undefined) node = node.properties[step];
    else node = typeof node?.additionalProperties === 'object' ? node.additionalProperties : undefined;
  }
  return node;
}

/** Every key at a fixed place of the schema (none in a list or under a name), with its node, in the order written. */
export function* fixedKeys(root: SchemaNode, around: readonly string[] = []): Generator<[string[], SchemaNode]> {
  for (const [key, node] of Object.entries(root.properties ?? {})) {
    yield [[...around, key], node];
    yield* fixedKeys(node, [...around, key]);
  }
}
