import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import { parse } from '@babel/parser';
import { describe, expect, test } from 'vitest';

const root = join(dirname(import.meta.dirname), 'src');

/** What the files of each layer may import; of its own layer a file may import anything. */
const allowed: Record<string, readonly string[]> = {
  'main.ts': ['cli'],
  cli: [
    'access',
    'site',
    'discovery',
    'config',
    'http',
    'operations',
    'mirror',
    'store',
    'upstream',
    'archive',
    'oci',
    'telemetry',
  ],
  site: [
    'signatures',
    'access',
    'config',
    'http',
    'front',
    'discovery',
    'hosted',
    'events',
    'holds',
    'operations',
    'mirror',
    'replicas',
    'store',
    'upstream',
    'coordination',
    'archive',
    'transport',
    'waiting',
    'memory',
    'oci',
    'telemetry',
  ],
  signatures: ['waiting', 'oci'],
  http: [
    'signatures',
    'events',
    'holds',
    'access',
    'front',
    'operations',
    'discovery',
    'hosted',
    'mirror',
    'replicas',
    'upstream',
    'transport',
    'memory',
    'oci',
  ],
  operations: ['access', 'discovery', 'hosted', 'mirror', 'store', 'upstream', 'archive', 'waiting', 'oci'],
  mirror: ['replicas', 'store', 'upstream', 'coordination', 'waiting', 'memory', 'oci'],
  replicas: ['store', 'upstream', 'coordination', 'waiting', 'oci'],
  front: ['telemetry', 'oci'],
  access: ['waiting', 'oci'],
  discovery: ['hosted', 'store', 'waiting', 'oci'],
  hosted: ['waiting', 'memory', 'oci'],
  store: ['waiting', 'memory', 'oci'],
  upstream: ['transport', 'waiting', 'oci'],
  coordination: ['transport', 'waiting', 'oci'],
  archive: ['oci'],
  config: ['oci'],
  telemetry: [],
  transport: ['waiting', 'oci'],
  waiting: ['oci'],
  events: ['transport', 'waiting', 'oci'],
  holds: ['oci'],
  memory: [],
  oci: [],
};

/** What the shelves of the store may import of the store, beside their own files. */
const shelves: Record<string, readonly string[]> = {
  'store/files': [],
  'store/catalog': ['store/files', 'store/eviction-policy.ts'],
  'store/care': ['store/files', 'store/catalog'],
  'store/eviction': ['store/files', 'store/catalog', 'store/eviction-policy.ts'],
};

/** What the folders of the mirror may import of its other folders. */
const mirrorFolders: Record<string, readonly string[]> = {
  fill: [],
  sharing: ['fill'],
};

/** Packages that one place only may know. */
const owners: Record<string, RegExp> = {
  'node:sqlite':
    /^(?:store\/catalog\/(?:catalog-file|checkpoint-worker|database|directory-lock|transactions)|discovery\/search\/index-(?:file|reader))\.ts$/,
  'prom-client': /^telemetry\/metrics\.ts$/,
  pino: /^telemetry\/logger\.ts$/,
  commander: /^cli\/command\.ts$/,
  yaml: /^config\/document\.ts$/,
  zod: /^config\/(?:[\w-]+-)?schema\.ts$/,
  croner: /^config\/schedule\.ts$/,
  semver: /^oci\/tag-selector\.ts$/,
  jose: /^(?:access\/(?:tokens|issuer|issuer-keys)|upstream\/credentials\/cloud\/jwt)\.ts$/,
  aws4fetch: /^upstream\/credentials\/cloud\/ecr\.ts$/,
  bcryptjs: /^access\/bcrypt-worker\.ts$/,
  '@sigstore/bundle': /^signatures\/bundle\.ts$/,
  '@sigstore/verify': /^signatures\/(?:bundle|trust-root)\.ts$/,
  '@sigstore/protobuf-specs': /^signatures\/trust-root\.ts$/,
  ioredis: /^coordination\/connection\.ts$/,
};

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** The file below `src` that is meant, where it is one of ours. */
  readonly target: string | undefined;
}

interface SourceFile {
  readonly file: string;
  readonly text: string;
  readonly imports: readonly Import[];
}

async function sourceFiles(): Promise<SourceFile[]> {
  const names = (await readdir(root, { recursive: true })).filter((name) => name.endsWith('.ts'));
  return await Promise.all(
    names.map(async (name) => {
      const file = name.replaceAll('\\', '/');
      const text = await readFile(join(root, name), 'utf8');
      const found = text.matchAll(
        /^(?:import|export)\b[^'";]*?\bfrom '([^']+)'|^import '([^']+)'|\bimport\('([^']+)'\)/gm,
      );
      const imports = [...found].map(([, from, bare, dynamic]) => {
        const specifier = from ?? bare ?? dynamic ?? '';
        const path = specifier.startsWith('.') ? posix.join(posix.dirname(file), specifier) : undefined;
        return { file, specifier, target: path?.startsWith('..') ? undefined : path };
      });
      return { file, text, imports };
    }),
  );
}

/** Functions and methods with their lengths; a function within another counts as lines of both. */
function functionsOf(text: string): { readonly name: string; readonly lines: number }[] {
  const found: { name: string; lines: number }[] = [];
  visit(parse(text, { sourceType: 'module', plugins: ['typescript'] }).program, 'a function without a name');
  return found;

  function visit(node: unknown, nameAround: string): void {
    if (Array.isArray(node)) for (const one of node) visit(one, nameAround);
    if (!isNode(node)) return;
    const name = node.id?.name ?? node.key?.name ?? node.key?.id?.name ?? nameAround;
    const isFunction = /^(?:Function|ArrowFunction|ClassMethod|ClassPrivateMethod|ObjectMethod)/.test(node.type);
    if (isFunction) found.push({ name, lines: node.loc.end.line - node.loc.start.line + 1 });
    for (const value of Object.values(node)) visit(value, name);
  }
}

interface Node {
  readonly type: string;
  readonly loc: { readonly start: { readonly line: number }; readonly end: { readonly line: number } };
  /** Of what has a name. */
  readonly id?: { readonly name?: string } | null;
  readonly key?: { readonly name?: string; readonly id?: { readonly name?: string } };
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && 'loc' in value;
}

const layerOf = (file: string): string => file.split('/', 1)[0] ?? '';

const files = await sourceFiles();
const imports = files.flatMap((source) => source.imports);

describe('the source', () => {
  test('is read at all', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(imports.length).toBeGreaterThan(200);
    expect([...new Set(files.map(({ file }) => layerOf(file)))].filter((layer) => !(layer in allowed))).toEqual([]);
  });

  test('imports one way only: nothing upward, nothing sideways', () => {
    const wrong = imports.filter(({ file, target }) => {
      if (target === undefined) return false;
      const [from, to] = [layerOf(file), layerOf(target)];
      return from !== to && allowed[from]?.includes(to) !== true;
    });
    expect(wrong).toEqual([]);
  });

  test.each(Object.entries(shelves))('keeps what %s imports on its own shelf and those below', (shelf, below) => {
    const wrong = imports.filter(({ file, target }) => {
      if (!file.startsWith(`${shelf}/`) || target?.startsWith('store/') !== true) return false;
      return ![shelf, ...below].some((one) => target === one || target.startsWith(`${one}/`));
    });
    expect(wrong).toEqual([]);
  });

  test.each(Object.entries(mirrorFolders))('keeps mirror/%s free of folders that are built on it', (folder, below) => {
    const wrong = imports.filter(({ file, target }) => {
      const to = target === undefined ? undefined : /^mirror\/([\w-]+)\//.exec(target)?.[1];
      return file.startsWith(`mirror/${folder}/`) && to !== undefined && to !== folder && !below.includes(to);
    });
    expect(wrong).toEqual([]);
  });

  test('divides operations by the process that runs them: what both share knows neither', () => {
    const parts = imports.flatMap(({ file, target = '' }) => {
      const [from, to] = [file, target].map((name) => /^operations\/([\w-]+)\//.exec(name)?.[1]);
      return from !== undefined && to !== undefined && from !== to ? [`${from} → ${to}`] : [];
    });
    expect([...new Set(parts)].toSorted()).toEqual(['command → protocol', 'owner → protocol']);
  });

  test('has no circles: a file can be understood after those that it imports', () => {
    const left = new Map(files.map((source) => [source.file, new Set(source.imports.map(({ target }) => target))]));
    for (let before = -1; before !== left.size; ) {
      before = left.size;
      for (const [file, targets] of left) if (![...targets].some((target) => left.has(target ?? ''))) left.delete(file);
    }
    expect([...left.keys()]).toEqual([]);
  });

  test('imports what is there, with its ending, from no barrel file', () => {
    const known = new Set(files.map(({ file }) => file));
    expect(imports.filter(({ target }) => target !== undefined && !known.has(target))).toEqual([]);
    expect(
      files.map(({ file }) => file).filter((file) => /(?:^|\/)(?:index\.ts|utils?|helpers|common)\b/.test(file)),
    ).toEqual([]);
  });

  test.each(Object.entries(owners))('knows %s in one file only', (name, owner) => {
    const users = imports.filter(({ specifier }) => specifier === name || specifier.startsWith(`${name}/`));
    expect(users.length).toBeGreaterThan(0);
    expect(users.map(({ file }) => file).filter((file) => !owner.test(file))).toEqual([]);
  });

  test('has named exports only, and passes nothing on', () => {
    const wrong = files.filter(({ text }) => /^export default\b|^export \*/m.test(text));
    expect(wrong.map(({ file }) => file)).toEqual([]);
  });

  test('has no file of more than 300 lines', () => {
    const long = files.filter(({ text }) => text.split('\n').length > 300 + 1);
    expect(long.map(({ file }) => file)).toEqual([]);
  });

  test('has no function of more than 60 lines', () => {
    const long = files.flatMap(({ file, text }) =>
      functionsOf(text)
        .filter(({ lines }) => lines > 60)
        .map(({ name, lines }) => `${file}: ${name} has ${lines} lines`),
    );
    expect(long).toEqual([]);
  });

  test('keeps no state in modules', () => {
    const wrong = files.filter(({ text }) =>
      /^(?:export )?let\b|^(?:export )?const \w+ = new (?:Map|WeakMap|LRUCache)\b/m.test(text),
    );
    expect(wrong.map(({ file }) => file)).toEqual([]);
  });
});
