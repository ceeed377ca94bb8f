import { expect, test } from 'vitest';
import { ReadyBlobs } from '../../src/mirror/ready-blobs.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { blobFact, rightFact } from '../../src/oci/facts.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { app, Records } from '../store/records.ts';

const KiB = 1024;
const bytes = Buffer.alloc(64 * KiB, 'content ');
const digest = digestOf(bytes);

/** Blobs that are recorded, in memory or in a file as the test says. */
async function start({ size = bytes.length, isVerified = true, shownBy = 'docker.io' } = {}) {
  const records = await Records.open();
  const state = {
    small: undefined as Buffer | undefined,
    readNow: undefined as Buffer | undefined,
    fetching: [] as string[],
    read: 0,
  };
  const ready = new ReadyBlobs({
    catalog: records.catalog,
    fills: { has: (of: Digest, upstream?: string) => state.fetching.includes(`${of} ${upstream}`) },
    small: () => state.small,
    readNow: () => {
      state.read += 1;
      return state.readNow;
    },
    pathOf: (of) => `/blobs/${of}`,
  });
  const repository: Repository = repositoryOf({ name: 'docker.io' } as Upstream, 'library/app');
  const known = { size, contentType: 'a/b', shownBy, ...(isVerified && { modifiedAtMs: 5 }) };
  records.catalog.blobs.record(digest, known);
  records.catalog.grants.grant(app, digest);
  const get = (of = digest) => ready.get(repository, of);
  return { state, get, catalog: records.catalog, [Symbol.dispose]: () => records[Symbol.dispose]() };
}

const facts = [blobFact(digest), rightFact(app, digest)];
const known = { digest, size: bytes.length, contentType: 'a/b', outcome: 'hit' };

test('a small blob is ready in memory, or in a file that the system has in memory and that is right', async () => {
  using on = await start();
  on.state.small = bytes;
  expect(on.get()).toEqual({ ...known, bytes, standing: { digest, facts } });
  expect(on.state.read).toBe(0);
  on.state.small = undefined;
  expect(on.get()).toBeUndefined();
  on.state.readNow = bytes;
  expect(on.get()).toEqual({ ...known, bytes, standing: { digest, facts } });
  on.state.readNow = Buffer.alloc(bytes.length, 'others');
  expect(on.get()).toBeUndefined();
  on.state.small = bytes.subarray(1);
  expect(on.get()).toBeUndefined();
});

test('a large blob is ready in its file, as it was recorded', async () => {
  const size = 64 * KiB + 1;
  using on = await start({ size });
  const file = { path: `/blobs/${digest}`, size, modifiedAtMs: 5 };
  expect(on.get()).toEqual({ ...known, size, bytes: undefined, standing: { digest, facts, file } });
  expect(on.state.read).toBe(0);
  using unverified = await start({ size, isVerified: false });
  expect(unverified.get()).toBeUndefined();
});

test('a blob that is unknown, not for this repository, or on its way is not ready', async () => {
  using on = await start();
  on.state.small = bytes;
  expect(on.get(digestOf(Buffer.from('another one')))).toBeUndefined();
  on.state.fetching = [`${digest} quay.io`];
  expect(on.get()).toBeDefined();
  on.state.fetching = [`${digest} docker.io`];
  expect(on.get()).toBeUndefined();
  using foreign = await start({ shownBy: 'quay.io' });
  foreign.state.small = bytes;
  expect(foreign.get()).toBeUndefined();
});
