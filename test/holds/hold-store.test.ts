import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { HoldStore } from '../../src/holds/hold-store.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const digest = digestOf(Buffer.from('a manifest'));

async function openStore(folder: string): Promise<HoldStore> {
  return await HoldStore.open({
    folder,
    rules: () => [{ fits: () => true, forMs: undefined }],
    now: () => 1_000,
    report: () => undefined,
  });
}

test('a decision stays where the digest comes to another repository while it is written, also after a restart', async () => {
  await using directory = await temporaryDirectory('holds');
  {
    await using store = await openStore(directory.path);
    store.note('local/app', digest);
    const deciding = store.decide([digest], { verdict: 'approved', reason: undefined });
    store.note('local/web', digest);
    await deciding;
    expect(store.state('local/web', digest)).toEqual({ kind: 'free' });
  }
  await using store = await openStore(directory.path);
  expect(['local/app', 'local/web'].map((name) => store.state(name, digest).kind)).toEqual(['free', 'free']);
  expect([...store.all()][0]).toMatchObject({ heldAtMs: { 'local/app': 1_000, 'local/web': 1_000 } });
});

test('of two decisions at once the later one counts, before and after a restart', async () => {
  await using directory = await temporaryDirectory('holds');
  {
    await using store = await openStore(directory.path);
    store.note('local/app', digest);
    await Promise.all([
      store.decide([digest], { verdict: 'approved', reason: undefined }),
      store.decide([digest], { verdict: 'rejected', reason: 'CVE' }),
    ]);
    expect(store.state('local/app', digest)).toEqual({ kind: 'rejected', reason: 'CVE' });
  }
  await using store = await openStore(directory.path);
  expect(store.state('local/app', digest)).toEqual({ kind: 'rejected', reason: 'CVE' });
});

test('a decision that the disk does not take does not count', async () => {
  await using directory = await temporaryDirectory('holds');
  const folder = join(directory.path, 'holds');
  await using store = await openStore(folder);
  await writeFile(folder, 'no folder');
  store.note('local/app', digest);
  await expect(store.decide([digest], { verdict: 'approved', reason: undefined })).rejects.toThrow();
  expect(store.state('local/app', digest).kind).toBe('held');
});
