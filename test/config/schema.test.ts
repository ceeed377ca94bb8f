import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { renderConfigurationDocs } from '../../scripts/configuration-docs.ts';
import { jsonSchema } from '../../src/config/schema.ts';
import type { SchemaNode } from '../../src/config/schema-node.ts';

function* everyKey(node: SchemaNode, path = ''): Generator<readonly [string, SchemaNode]> {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    yield [`${path}${key}`, child];
    yield* everyKey(child, `${path}${key}.`);
    if (child.items !== undefined) yield* everyKey(child.items, `${path}${key}[].`);
  }
  if (typeof node.additionalProperties === 'object') yield* everyKey(node.additionalProperties, `${path}NAME.`);
}

test('every key of a configuration has a description that is a sentence', () => {
  const keys = [...everyKey(jsonSchema())];
  expect(keys.length).toBeGreaterThan(50);
  expect(keys.filter(([, node]) => !node.description?.endsWith('.')).map(([path]) => path)).toEqual([]);
});

test('the schema for editors refuses unknown keys in every section', () => {
  const sections = [['', jsonSchema()] as const, ...everyKey(jsonSchema())].filter(([, node]) => node.properties);
  expect(sections.filter(([, node]) => node.additionalProperties !== false).map(([path]) => path)).toEqual([]);
});

test('docs/configuration.md is up to date (npm run docs)', async () => {
  const written = await readFile(new URL('../../docs/configuration.md', import.meta.url), 'utf8');
  expect(written).toBe(renderConfigurationDocs());
});
