import { access, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

async function pages(folder = root): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && !['node_modules', 'data', '.git'].includes(entry.name))
      found.push(...(await pages(path)));
    else if (entry.name.endsWith('.md')) found.push(path);
  }
  return found;
}

const fence = /^```(.*)\n([^]*?)^```$/gm;

/** The anchors that headings of a page have, in the way that code hosts make them. */
function anchors(markdown: string): string[] {
  return [...markdown.replaceAll(fence, '').matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}

describe('the documents', () => {
  test('every relative link leads to a file, and to a heading where it names one', async () => {
    const broken: string[] = [];
    let count = 0;
    for (const page of await pages()) {
      const text = (await readFile(page, 'utf8')).replaceAll(fence, '').replaceAll(/`[^`]*`/g, '');
      for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/i.test(target)) continue;
        count += 1;
        const [path = '', anchor] = target.split('#');
        const file = path === '' ? page : resolve(dirname(page), path);
        const resolves =
          (await isThere(file)) && (anchor === undefined || anchors(await readFile(file, 'utf8')).includes(anchor));
        if (!resolves) broken.push(`${relative(root, page)}: ${target}`);
      }
    }
    expect(broken).toEqual([]);
    expect(count).toBeGreaterThan(20);
  });

  test('every configuration shown in them is valid', async () => {
    await using folder = await temporaryDirectory('docs');
    let count = 0;
    for (const page of await pages()) {
      const isReference = relative(root, page) === join('docs', 'configuration.md');
      for (const [, info, block = ''] of (await readFile(page, 'utf8')).matchAll(fence)) {
        if (info !== 'yaml millpond' && !(isReference && info === 'yaml')) continue;
        count += 1;
        const file = join(folder.path, 'shown.yaml');
        await writeFile(file, block);
        const loading = loadConfig({ flags: { config: file }, environment: {}, workingDirectory: folder.path });
        await expect(loading, `${relative(root, page)}:\n${block}`).resolves.toHaveProperty('config');
      }
    }
    expect(count).toBeGreaterThan(2);
  });

  test('every dependency has a line that says what it saves', async () => {
    const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as Record<string, object>;
    const page = await readFile(join(root, 'docs', 'dependencies.md'), 'utf8');
    const names = ['dependencies', 'devDependencies', 'optionalDependencies'].flatMap((kind) =>
      Object.keys(manifest[kind] ?? {}),
    );
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });
});

describe('deploy/Dockerfile', () => {
  test('what the image copies is what the builder is sent', async () => {
    const dockerfile = await readFile(join(root, 'deploy', 'Dockerfile'), 'utf8');
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = '']) =>
      names.split(' '),
    );
    const sent = [...(await readFile(join(root, '.dockerignore'), 'utf8')).matchAll(/^!(.+)$/gm)].map(
      ([, name = '']) => name,
    );
    expect([...new Set(copied)].toSorted()).toEqual(sent.toSorted());
    for (const name of copied) expect(await isThere(join(root, name))).toBe(true);
  });
});

describe('docs/operations.md', () => {
  test('has a line for every metric', async () => {
    await using site = await startTestSite({ upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } } });
    const exposed = (await site.get('/metrics')).body.toString();
    const names = [...exposed.matchAll(/^# TYPE (millpond_(?!process_|nodejs_)\w+)/gm)].map(([, name = '']) => name);
    const page = await readFile(join(root, 'docs', 'operations.md'), 'utf8');
    expect(names).toContain('millpond_requests_total');
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });
});
