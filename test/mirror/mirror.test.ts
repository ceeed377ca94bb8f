import { once } from 'node:events';
import { expect, test } from 'vitest';
import type { SharedTagKey, TagClaim } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { nameOf } from '../../src/mirror/asked-lists.ts';
import { readManifest } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ociManifest } from '../../src/oci/media-types.ts';
import type { Repository } from '../../src/upstream/repository.ts';
import { blobOf, contentOf, scriptedMirror, scriptedUpstream, waiting } from './scripted-mirror.ts';

/** With other replicas, which know nothing. */
class Others extends SoloCoordinator {
  override readonly isAlone: true = false as unknown as true;

  listeners = 0;

  override subscribe(): Disposable {
    this.listeners += 1;
    return { [Symbol.dispose]: () => (this.listeners -= 1) };
  }

  override claimTag(_?: SharedTagKey): Promise<TagClaim> {
    return Promise.resolve({ kind: 'ours' });
  }
}

const blob = blobOf('blob');
const own = 'docker.io/library/app';

async function start({ coordinator = new SoloCoordinator(), offline = false } = {}) {
  const upstream = scriptedUpstream();
  upstream.state.blobs.push(blob);
  const repository = upstream.repository();
  const find = (key: string): Repository | undefined => (key === repository.key ? repository : undefined);
  return { ...(await scriptedMirror({ coordinator, offline, find })), upstream, repository };
}

const through = { through: own, access: 'one way' };

test('a mirror gives other replicas what is stored, as it was shown to be the upstream’s', async () => {
  await using on = await start({ coordinator: new Others() });
  const { body } = await on.blobs.get(on.repository, blob.digest, waiting);
  await contentOf(body);
  await expect.poll(() => on.mirror.isStored(blob.digest)).toBe(true);
  const question = { want: 'stored', offset: 0, ...through, signal: waiting.signal } as const;
  const given = await on.mirror.peerService.open(blob.digest, question);
  expect(given).toMatchObject({ size: 100_000, contentType: 'a/b' });
  expect((await contentOf(given!.body)).equals(blob.bytes)).toBe(true);
  expect(await on.mirror.peerService.open(blob.digest, { ...question, access: 'another way' })).toBeUndefined();
  expect(await on.mirror.replicaAnswers.answer({ kind: 'right', digest: blob.digest, ...through })).toEqual({
    size: 100_000,
    contentType: 'a/b',
    isShown: true,
  });
  expect(on.mirror.isStored(blobOf('other').digest)).toBe(false);
});

test('what another upstream has given is compared before other replicas get it', async () => {
  await using on = await start({ coordinator: new Others() });
  const bytes = Buffer.from('{"layers":[]}');
  const manifest = digestOf(bytes);
  on.upstream.state.blobs.push({ digest: manifest, bytes });
  await on.store.put(manifest, bytes);
  const links = readManifest(bytes, ociManifest);
  const known = {
    repository: 'quay.io/app',
    source: 'upstream',
    size: bytes.length,
    contentType: ociManifest,
  } as const;
  on.catalog.manifests.record(manifest, { ...known, links });
  await on.store.put(blob.digest, blob.bytes);
  on.catalog.blobs.record(blob.digest, { size: blob.bytes.length, contentType: 'a/b', shownBy: 'quay.io' });
  const question = { want: 'stored', offset: 0, ...through, signal: waiting.signal } as const;
  for (const digest of [blob.digest, manifest]) {
    const given = await on.mirror.peerService.open(digest, question);
    await given?.body[Symbol.asyncDispose]();
    expect([given === undefined, on.catalog.blobs.isShown(digest, 'docker.io')]).toEqual([false, true]);
  }
  expect(on.upstream.asked.filter((one) => !/^GET \d+-\d+$/.test(one))).toEqual(['GET manifest']);
});

test('what an earlier run has left of a blob is continued where only the same upstream can have given it', async () => {
  for (const [reader, expected] of [
    [own, 'GET 30000-'],
    ['quay.io/app', 'GET 0-'],
  ] as const) {
    await using on = await start();
    await using partial = await on.store.ingest(blob.digest);
    await partial.append([blob.bytes.subarray(0, 30_000)]);
    await partial[Symbol.asyncDispose]();
    for (const repository of [own, reader]) on.catalog.grants.grant(repository, blob.digest);
    const { body } = await on.blobs.get(on.repository, blob.digest, waiting);
    expect((await contentOf(body)).equals(blob.bytes)).toBe(true);
    expect(on.upstream.asked).toEqual([expected]);
  }
});

test('a mirror that stops ends what it fetches, and leaves it to be continued', async () => {
  const coordinator = new Others();
  await using on = await start({ coordinator });
  on.upstream.state.gate = new Promise(() => undefined);
  const { body } = await on.blobs.get(on.repository, blob.digest, waiting);
  await expect.poll(() => on.mirror.fills.progress()[0]?.writtenBytes).toBe(50_000);
  expect(coordinator.listeners).toBe(1);
  await on.mirror[Symbol.asyncDispose]();
  await body[Symbol.asyncDispose]();
  expect([on.mirror.fills.count, coordinator.listeners]).toEqual([0, 0]);
  await using partial = await on.store.ingest(blob.digest);
  expect(partial.written).toBe(50_000);
});

test('a mirror that stops ends the check of a file in doubt', async () => {
  const checking = Promise.withResolvers<AbortSignal>();
  const on = await scriptedMirror({
    check: async (_digest, _size, { signal }) => {
      checking.resolve(signal);
      await once(signal, 'abort');
      throw signal.reason;
    },
  });
  const upstream = scriptedUpstream();
  await on.store.put(blob.digest, blob.bytes);
  on.catalog.blobs.record(blob.digest, { size: 100_000, contentType: 'a/b', shownBy: 'docker.io' });
  const refused = expect(on.blobs.get(upstream.repository(), blob.digest, waiting)).rejects.toMatchObject({
    reason: 'shutting-down',
  });
  const signal = await checking.promise;
  await on[Symbol.asyncDispose]();
  expect(signal.aborted).toBe(true);
  await refused;
});

test('other replicas are told tags of whole images, and lists', async () => {
  await using on = await start({ coordinator: new Others() });
  const image = on.records.manifest('image', { layers: [] });
  const question = { kind: 'tag', tag: 'v1', variant: '', ...through } as const;
  on.records.tag('v1', image, { access: 'one way' });
  expect(await on.mirror.replicaAnswers.answer(question)).toBeUndefined();
  await on.store.put(image, Buffer.from('{"layers":[]}'));
  on.catalog.blobs.noteShown(image, 'docker.io');
  on.records.nowMs += 1_500;
  expect(await on.mirror.replicaAnswers.answer(question)).toEqual({
    digest: image,
    contentType: ociManifest,
    size: 100,
    ageMs: 1_500,
  });
  const name = nameOf('tags', { repository: on.repository, query: '' });
  expect(await on.mirror.replicaAnswers.answer({ kind: 'list', name, ...through })).toBeUndefined();
  await on.mirror.listings.tags(on.repository, '', waiting);
  expect(await on.mirror.replicaAnswers.answer({ kind: 'list', name, ...through })).toMatchObject({ ageMs: 0 });
});
