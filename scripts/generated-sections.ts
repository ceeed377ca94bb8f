import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { editorSchema } from '../src/config/schema.ts';

const contributing = new URL('../CONTRIBUTING.md', import.meta.url);
const rules = new URL('../test/architecture.test.ts', import.meta.url);
const decisions = new URL('../docs/adr/', import.meta.url);
const index = new URL('README.md', decisions);
const chartValues = new URL('../deploy/helm/millpond/values.schema.json', import.meta.url);

/** CONTRIBUTING.md with the layers and the line limit that test/architecture.test.ts enforces. */
export function renderContributing(): string {
  const source = readFileSync(rules, 'utf8');
  const table = ['| files of | may import |', '|---|---|', ...layers(source).map(layerRow)].join('\n');
  const withLayers = replaceSection(readFileSync(contributing, 'utf8'), { name: 'layers', text: `\n${table}\n` });
  return replaceSection(withLayers, { name: 'limit', text: lineLimit(source) });
}

/** docs/adr/README.md with a row for each record. */
export function renderDecisions(): string {
  const rows = recordNames().map((name) => recordRow(name, readFileSync(new URL(name, decisions), 'utf8')));
  return replaceSection(readFileSync(index, 'utf8'), { name: 'records', text: `\n${rows.join('\n')}\n` });
}

/** The schema of the chart's values, in which `config` is Millpond's own: helm refuses a misspelt key before any pod does. */
export function renderChartValues(): string {
  const schema = JSON.parse(readFileSync(chartValues, 'utf8')) as { properties: Record<string, unknown> };
  const { $schema: _, title: __, ...config } = structuredClone(editorSchema()) as unknown as ConfigSchema;
  const { properties } = config;
  // The chart writes these.
  for (const key of ['listen', 'redis']) properties[key] = false;
  (properties['cache'] as ConfigSchema).properties['dir'] = false;
  schema.properties['config'] = config;
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

interface ConfigSchema {
  readonly $schema?: string;
  readonly title?: string;
  readonly properties: Record<string, unknown>;
}

/** File names of all decision records, in the order of their numbers. */
export function recordNames(): string[] {
  return readdirSync(decisions)
    .filter((name) => /^\d{4}-.*\.md$/.test(name))
    .toSorted();
}

interface Layer {
  readonly name: string;
  readonly imports: readonly string[];
}

/** The entries of the object `allowed` in the text of the architecture test. */
function layers(source: string): Layer[] {
  const block = /^const allowed\b[^=]*= \{\n([^]*?)^\};/m.exec(source)?.[1];
  if (block === undefined) throw new Error('test/architecture.test.ts has no table "allowed"');
  return [...block.matchAll(/^ {2}'?([\w./-]+)'?: \[([^\]]*)\]/gm)].map(([, name = '', imports = '']) => ({
    name,
    imports: [...imports.matchAll(/'([^']+)'/g)].map(([, layer = '']) => layer),
  }));
}

function layerRow({ name, imports }: Layer): string {
  const list = imports.length === 0 ? 'no other folder' : imports.map((layer) => `\`${layer}\``).join(', ');
  return `| \`${name}\` | ${list} |`;
}

function lineLimit(source: string): string {
  const limit = /\.length > (\d+) \+ 1/.exec(source)?.[1];
  if (limit === undefined) throw new Error('test/architecture.test.ts has no limit of lines');
  return limit;
}

function recordRow(name: string, text: string): string {
  const [, number, title] = /^# (\d+)\. (.+)$/m.exec(text) ?? [];
  const [, status, date] = /^Status: (.+) · Date: (\d{4}-\d\d-\d\d)$/m.exec(text) ?? [];
  if (number === undefined || status === undefined) throw new Error(`docs/adr/${name} lacks a title, status or date`);
  return `| ${number} | [${title}](${name}) | ${status} | ${date} |`;
}

function replaceSection(page: string, { name, text }: { readonly name: string; readonly text: string }): string {
  const [begin, end] = [`<!-- ${name}: begin -->`, `<!-- ${name}: end -->`];
  const [from, to] = [page.indexOf(begin), page.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`a page has no section "${name}"`);
  return page.slice(0, from + begin.length) + text + page.slice(to);
}

function writeWhereChanged(file: URL, text: string): void {
  if (readFileSync(file, 'utf8') !== text) writeFileSync(file, text);
}

if (import.meta.main) {
  writeWhereChanged(contributing, renderContributing());
  writeWhereChanged(index, renderDecisions());
  writeWhereChanged(chartValues, renderChartValues());
}
