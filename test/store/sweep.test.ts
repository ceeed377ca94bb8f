import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { layoutOf, prepareLayout } from '../../src/store/files/layout.ts';
import { maxPartials, partialLastsMs, sweepIngest } from '../../src/store/files/sweep.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const nowMs = Date.UTC(2030, 0, 15);
const digest = digestOf(Buffer.from('a blob'));
const other = digestOf(Buffer.from('another blob'));
const partial = digest.replace(':', '-');
const temporary = `${partial}.0b4ab2a6-37a5-4d0c-8f5b-7f6c0f2a2d4e`;

interface Left {
  readonly what: string;
  /** Names under `ingest/` → content. */
  readonly files: Readonly<Record<string, string>>;
  readonly ageMs: number;
  readonly stored?: boolean;
  readonly kept: readonly string[];
}

test.each<Left>([
  { what: 'a partial file of yesterday', files: { [partial]: 'a b' }, ageMs: 86_400_000, kept: [partial] },
  { what: 'a partial file at its limit', files: { [partial]: 'a b' }, ageMs: partialLastsMs, kept: [partial] },
  { what: 'a partial file past its limit', files: { [partial]: 'a b' }, ageMs: partialLastsMs + 2000, kept: [] },
  { what: 'an old partial file with its note', files: noted(), ageMs: partialLastsMs + 2000, kept: [] },
  { what: 'a partial file with its note', files: noted(), ageMs: 0, kept: [partial, `${partial}.prefix`] },
  { what: 'a note without its partial file', files: { [`${partial}.prefix`]: '3' }, ageMs: 0, kept: [] },
  { what: 'an empty partial file', files: { [partial]: '' }, ageMs: 0, kept: [] },
  { what: 'a file that was not to be continued', files: { [temporary]: 'a b' }, ageMs: 0, kept: [] },
  { what: 'a part of a stored blob', files: { [partial]: 'a b' }, ageMs: 0, stored: true, kept: [] },
  { what: 'a file of somebody else', files: { '.nfs0001': '', readme: '' }, ageMs: 1e12, kept: ['.nfs0001', 'readme'] },
])('$what: $kept.length kept', async ({ files, ageMs, stored = false, kept }) => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  await writeFile(layout.blob(other), 'another blob');
  if (stored) await writeFile(layout.blob(digest), 'a blob');
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(layout.ingest, name), content);
    await utimes(join(layout.ingest, name), nowMs / 1000, (nowMs - ageMs) / 1000);
  }
  const removed = await sweepIngest(layout, { now: () => nowMs });
  expect((await readdir(layout.ingest)).toSorted()).toEqual([...kept].toSorted());
  expect(removed).toBe(Object.keys(files).length - kept.length);
  expect(await readdir(join(layout.blobs, 'sha256'))).toHaveLength(stored ? 2 : 1);
});

test('of too many partial files the newest are kept', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  const names = Array.from({ length: maxPartials + 3 }, (_, index) =>
    digestOf(Buffer.from(`blob ${index}`)).replace(':', '-'),
  );
  for (const [index, name] of names.entries()) {
    await writeFile(join(layout.ingest, name), 'a b');
    await utimes(join(layout.ingest, name), nowMs / 1000, nowMs / 1000 - 10_000 + index);
  }
  expect(await sweepIngest(layout, { now: () => nowMs })).toBe(3);
  expect((await readdir(layout.ingest)).toSorted()).toEqual(names.slice(3).toSorted());
});

test('what cannot be removed or read stays without a word', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(folder.path);
  expect(await sweepIngest(layout, { now: () => nowMs })).toBe(0);
  await prepareLayout(layout);
  await mkdir(join(layout.ingest, temporary));
  expect(await sweepIngest(layout, { now: () => nowMs })).toBe(0);
  expect(await readdir(layout.ingest)).toEqual([temporary]);
});

test('a mirror sweeps its directory before it serves', async () => {
  await using folder = await temporaryDirectory();
  const layout = layoutOf(folder.path);
  await prepareLayout(layout);
  for (const name of [temporary, partial, `${other.replace(':', '-')}.prefix`]) {
    await writeFile(join(layout.ingest, name), 'a b');
  }
  const upstreams = { 'docker.io': { origin: 'http://127.0.0.1:9' } };
  await using site = await startTestSite({ upstreams, cacheDir: folder.path });
  expect(await readdir(layout.ingest)).toEqual([partial]);
  expect(site.logLines).toContainEqual(expect.objectContaining({ files: 2, msg: 'left-over files removed' }));
});

function noted(): Record<string, string> {
  return { [partial]: 'a b', [`${partial}.prefix`]: '3' };
}
