import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { renderConfigurationDocs } from '../../scripts/configuration-docs.ts';
import { editorSchema, jsonSchema } from '../../src/config/schema.ts';
import { type SchemaNode, schemaNode } from '../../src/config/schema-node.ts';
import { loadText } from './sources.ts';

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

test('to an editor a size without its unit is a number where a text is due, and 0 is one where there is no lower bound', () => {
  const node = (...path: string[]) => schemaNode(editorSchema(), path);
  const size = { type: 'string', pattern: expect.stringContaining('GiB') };
  expect(node('cache', 'maxSize')).toEqual({ ...size, default: '100GiB', description: expect.any(String) });
  expect(node('cache', 'minFree')).toMatchObject({ anyOf: [size, { const: 0 }] });
  expect(node('cache', 'tagTtl')).toMatchObject({ anyOf: [{ type: 'string' }, { const: 0 }] });
});

test("what editors get is standard JSON Schema: Millpond's own marks are left out", () => {
  expect(JSON.stringify(jsonSchema())).toContain('"x-restart":true');
  expect(JSON.stringify(editorSchema())).not.toContain('"x-');
});

test('top-level keys that begin with x- may hold anything, for anchors', async () => {
  expect(editorSchema()).toMatchObject({ additionalProperties: false, patternProperties: { '^x-': {} } });
  const { config } = await loadText(`x-slow: &slow { timeouts: { headers: 20s } }
x-notes: [1, 2]
upstreams: { a.example: { <<: *slow } }
`);
  expect(config.upstreams[0]?.timeouts.headersMs).toBe(20_000);
});
