import { describe, expect, test } from 'vitest';
import { HostedTotals } from '../../src/hosted/totals.ts';
import { readAll, seededSource } from '../support/bytes.ts';
import { localBlob } from '../support/images.ts';
import { temporaryFolder } from '../support/site.ts';
import { registryIn } from './registry.ts';
import { begin, blobPath, pushBlob, send, startHostedSite } from './support.ts';

const blobs = Array.from({ length: 8 }, (_, at) => localBlob(readAll(seededSource(100_000, at))));

describe('a quota', () => {
  test('is not exceeded by pushes at the same time', async () => {
    await using site = await startHostedSite({ hosted: { quota: '350KB' } });
    const locations = await Promise.all(blobs.map(() => begin(site, 'local/app')));
    const answers = await Promise.all(
      blobs.map(({ digest, bytes }, at) => send(site, ['PUT', `${locations[at]}?digest=${digest}`], { body: bytes })),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 201)).toHaveLength(3);
    expect(statuses.filter((status) => status === 413)).toHaveLength(5);
  });

  test('is not exceeded by mounts at the same time', async () => {
    await using site = await startHostedSite({ hosted: { quota: { 'local/small': '350KB', '**': '1GB' } } });
    for (const blob of blobs) await pushBlob(site, 'local/app', blob);
    const answers = await Promise.all(
      blobs.map(({ digest }) => send(site, ['POST', `/v2/local/small/blobs/uploads/?mount=${digest}&from=local/app`])),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3);
  });

  test('counts the same blob once, however often it is pushed at once, and has room again after a delete', async () => {
    await using site = await startHostedSite({ hosted: { quota: '350KB' } });
    const [one, two, three, four] = blobs;
    await Promise.all(Array.from({ length: 3 }, () => pushBlob(site, 'local/app', one!)));
    for (const blob of [two!, three!]) expect((await pushBlob(site, 'local/app', blob)).status).toBe(201);
    expect((await pushBlob(site, 'local/app', four!)).status).toBe(413);
    await send(site, ['DELETE', blobPath('local/app', one!.digest)]);
    expect((await pushBlob(site, 'local/app', four!)).status).toBe(201);
  });
});

test('what is hosted is counted again after a change only', async () => {
  await using folder = await temporaryFolder();
  const registry = registryIn(folder.path);
  let looks = 0;
  const counted = new HostedTotals({
    usage: registry.usage,
    repositories: new Proxy(registry.repositories, {
      get(target, name) {
        if (name === 'all') looks += 1;
        const value = Reflect.get(target, name) as unknown;
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    }),
  });
  expect(await counted.count()).toEqual({ repositories: 0, bytes: 0 });
  const bytes = Buffer.from('{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}');
  const { digest } = await registry.manifests.put('local/app', { bytes, contentType: '', tags: ['1'] });
  expect(await counted.count()).toEqual({ repositories: 1, bytes: bytes.length });
  expect(await counted.count()).toEqual({ repositories: 1, bytes: bytes.length });
  expect(looks).toBe(2);
  await registry.manifests.delete('local/app', digest);
  expect(await counted.count()).toEqual({ repositories: 0, bytes: 0 });
});
