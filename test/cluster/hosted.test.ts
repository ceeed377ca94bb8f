import { describe, expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { runMillpond } from '../holds/command.ts';
import { begin, blobPath, codeOf, pushBlob, pushImage, putManifest, send } from '../hosted/support.ts';
import { settled } from '../mirror/support.ts';
import { readAll, seededSource } from '../support/bytes.ts';
import { localArtifact, localBlob, localImage } from '../support/images.ts';
import { temporaryFolder } from '../support/site.ts';
import { annAndBob, startHostedFleet } from './hosted-fleet.ts';

const repository = 'local/app';
const image = localImage({ label: 'one' });
const manifest = (reference: string) => `/v2/${repository}/manifests/${reference}`;

describe('hosted repositories that one replica keeps', () => {
  test('take pushes at any of them, and are read at all', async () => {
    await using fleet = await startHostedFleet({ others: 2 });
    const [one, two] = fleet.others;
    const put = await pushImage(one!, repository, image, '1');
    expect(put).toMatchObject({ status: 201, headers: { 'docker-content-digest': image.digest } });
    for (const site of fleet.sites) {
      for (const reference of ['1', image.digest]) {
        const got = await send(site, ['GET', manifest(reference)]);
        expect(got).toMatchObject({ status: 200, headers: { 'docker-content-digest': image.digest } });
        expect(got.body.equals(image.bytes)).toBe(true);
      }
      for (const blob of image.blobs) {
        expect((await send(site, ['GET', blobPath(repository, blob.digest)])).body.equals(blob.bytes)).toBe(true);
      }
      const tags = await send(site, ['GET', `/v2/${repository}/tags/list`]);
      expect(JSON.parse(tags.body.toString())).toEqual({ name: repository, tags: ['1'] });
      // An empty query is none.
      const upload = await send(site, ['POST', `/v2/${repository}/blobs/uploads/?`]);
      expect(upload.status).toBe(202);
    }
    // What is pushed at one replica is read at another at once.
    const signature = localArtifact({ artifactType: 'application/x-signature', subject: image });
    expect((await pushImage(two!, repository, signature)).headers['oci-subject']).toBe(image.digest);
    const referrers = await send(one!, ['GET', `/v2/${repository}/referrers/${image.digest}`]);
    expect(JSON.parse(referrers.body.toString())).toMatchObject({ manifests: [{ digest: signature.digest }] });
  });

  test('go on with an upload at another replica after the first has gone', async () => {
    await using fleet = await startHostedFleet({ others: 2 });
    const [one, two] = fleet.others;
    const blob = localBlob(readAll(seededSource(3_000_000, 7)));
    const location = await begin(one!, repository);
    expect(location).toMatch(/^\/v2\/local\/app\/blobs\/uploads\//);
    const first = blob.bytes.subarray(0, 1_000_000);
    expect((await send(one!, ['PATCH', location], { body: first })).headers['range']).toBe('0-999999');
    await one!.stop();
    expect(await send(two!, ['GET', location])).toMatchObject({ status: 204, headers: { range: '0-999999' } });
    const wrong = await send(two!, ['PATCH', location], {
      headers: { 'content-range': '5-9' },
      body: 'wrong',
    });
    expect(wrong).toMatchObject({ status: 416, headers: { range: '0-999999' } });
    const rest = [blob.bytes.subarray(1_000_000, 2_000_000), blob.bytes.subarray(2_000_000)];
    const put = await send(two!, ['PUT', `${location}?digest=${blob.digest}`], { body: rest });
    expect({ status: put.status, digest: put.headers['docker-content-digest'] }).toEqual({
      status: 201,
      digest: blob.digest,
    });
    expect((await send(two!, ['GET', blobPath(repository, blob.digest)])).body.equals(blob.bytes)).toBe(true);
  });

  test('are gone everywhere at once when they are deleted, and tags move everywhere at once', async () => {
    await using fleet = await startHostedFleet({ others: 2 });
    const [one, two] = fleet.others;
    const other = localImage({ label: 'two' });
    await pushImage(one!, repository, image, '1');
    for (const site of fleet.sites) expect((await send(site, ['GET', manifest('1')])).status).toBe(200);
    await pushImage(two!, repository, other, '1');
    for (const site of fleet.sites) {
      expect((await send(site, ['HEAD', manifest('1')])).headers['docker-content-digest']).toBe(other.digest);
    }
    const [layer] = image.blobs;
    await send(one!, ['GET', blobPath(repository, layer!.digest)]);
    expect((await send(two!, ['DELETE', manifest(image.digest)])).status).toBe(202);
    expect((await send(two!, ['DELETE', blobPath(repository, layer!.digest)])).status).toBe(202);
    for (const site of fleet.sites) {
      expect((await send(site, ['GET', manifest(image.digest)])).status).toBe(404);
      expect((await send(site, ['GET', blobPath(repository, layer!.digest)])).status).toBe(404);
    }
  });

  test('are listed in the catalog of all of them, in pages', async () => {
    await using fleet = await startHostedFleet();
    const names = ['local/a', 'local/a-b', 'local/a/b', 'local/b', 'local/c'];
    for (const name of names) expect((await pushImage(fleet.owner, name, image, '1')).status).toBe(201);
    const [replica] = fleet.others;
    const catalog = async (query = '') => {
      const { status, headers, body } = await send(replica!, ['GET', `/v2/_catalog${query}`]);
      const { repositories } = JSON.parse(body.toString()) as { repositories: string[] };
      return { status, repositories, link: headers['link'], warning: headers['warning'] };
    };
    expect(await catalog()).toEqual({ status: 200, repositories: names, link: undefined, warning: undefined });
    const pages: string[] = [];
    for (let last = ''; ; last = pages.at(-1)!) {
      const { repositories, link } = await catalog(`?n=2&last=${encodeURIComponent(last)}`);
      pages.push(...repositories);
      if (link === undefined) break;
    }
    expect(pages).toEqual(names);
    await fleet.owner.stop();
    const away = await catalog();
    expect(away).toMatchObject({ status: 200, repositories: [] });
    expect(away.warning).toContain('the hosted repositories are not listed');
  });

  test('refuse at a replica what the owner refuses, in its words', async () => {
    await using fleet = await startHostedFleet({ hosted: { immutableTags: ['v*'], quota: '1KiB' } });
    const [one] = fleet.others;
    const early = await putManifest(one!, repository, { reference: 'x', manifest: image });
    expect({ status: early.status, code: codeOf(early) }).toEqual({ status: 404, code: 'MANIFEST_BLOB_UNKNOWN' });
    // Much more than is read before the answer.
    const large = localBlob(readAll(seededSource(30_000_000, 3)));
    const refused = await pushBlob(one!, repository, large);
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
    expect((await send(one!, ['POST', manifest('x')])).status).toBe(405);
  });

  test('give tags to what is there, and say what a repository offers, at any of them', async () => {
    await using fleet = await startHostedFleet();
    const [one] = fleet.others;
    await pushImage(one!, repository, image, '1');
    const path = `/v2/${repository}/_millpond/manifests/tags?digest=${image.digest}&tag=2`;
    expect(await send(one!, ['PUT', path])).toMatchObject({ status: 201, headers: { 'oci-tag': '2' } });
    expect((await send(one!, ['HEAD', manifest('2')])).headers['docker-content-digest']).toBe(image.digest);
    const discovered = await send(one!, ['GET', `/v2/${repository}/_oci/ext/discover`]);
    expect(discovered.body.toString()).toContain('_millpond/manifests/tags');
  });
});

describe('while the owner of hosted repositories is away', () => {
  test('pushes are refused with the reason, and pulls get what the replica holds', async () => {
    await using fleet = await startHostedFleet();
    const [one] = fleet.others;
    await pushImage(one!, repository, image, '1');
    await send(one!, ['GET', manifest('1')]);
    for (const blob of image.blobs) await send(one!, ['GET', blobPath(repository, blob.digest)]);
    await settled(one!);
    await fleet.owner.stop();
    const push = await send(one!, ['POST', `/v2/${repository}/blobs/uploads/`]);
    expect(push).toMatchObject({ status: 503, headers: { 'retry-after': '5' } });
    expect(push.body.toString()).toContain('hosted.owner');
    const tag = await send(one!, ['GET', manifest('1')]);
    expect(tag.body.toString()).toBe(image.bytes.toString());
    expect(tag.headers['cache-status']).toContain('detail=stale');
    for (const blob of image.blobs) {
      expect((await send(one!, ['GET', blobPath(repository, blob.digest)])).body.equals(blob.bytes)).toBe(true);
    }
    expect((await send(one!, ['GET', manifest('2')])).status).toBe(503);
  });

  test('a replica gives nothing that was deleted, also after a restart of its own, and goes on with the rest', async () => {
    await using fleet = await startHostedFleet();
    const [one] = fleet.others;
    const other = localImage({ label: 'two' });
    await pushImage(one!, repository, image, '1');
    await pushImage(one!, repository, other, '2');
    for (const reference of ['1', '2', other.digest]) {
      expect((await send(one!, ['GET', manifest(reference)])).status).toBe(200);
    }
    for (const blob of [...image.blobs, ...other.blobs]) await send(one!, ['GET', blobPath(repository, blob.digest)]);
    await settled(one!);
    const [layer] = other.blobs;
    expect((await send(one!, ['DELETE', manifest(other.digest)])).status).toBe(202);
    // What was deleted elsewhere counts as soon as this replica has asked for it once.
    expect((await send(fleet.owner, ['DELETE', blobPath(repository, layer!.digest)])).status).toBe(202);
    expect((await send(one!, ['GET', blobPath(repository, layer!.digest)])).status).toBe(404);
    await fleet.owner.stop();
    const gone = [manifest('2'), manifest(other.digest), blobPath(repository, layer!.digest)];
    const expectGone = async (site: { readonly origin: string }): Promise<void> => {
      for (const path of gone) {
        for (const method of ['GET', 'HEAD']) expect((await send(site, [method, path])).status, path).toBe(503);
      }
      expect((await send(site, ['GET', manifest('1')])).status).toBe(200);
    };
    await expectGone(one!);
    const { cacheDir } = one!;
    await one!.stop();
    await using again = await fleet.add({ cacheDir });
    await expectGone(again);
  });

  test('a replica serves nothing that is held, even if a client has pulled it before', async () => {
    await using folder = await temporaryFolder();
    const auth = await annAndBob(folder.path);
    await using fleet = await startHostedFleet({ config: { auth, hold: [{ repositories: ['local/**'] }] } });
    const [one] = fleet.others;
    const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
    const name = 'local/bob';
    const artifacts = ['held', 'approved'].map((label) => localArtifact({ annotations: { label } }));
    const path = (reference: string) => `/v2/${name}/manifests/${reference}`;
    for (const { digest, bytes } of artifacts[0]!.blobs) {
      await send(fleet.owner, ['POST', `/v2/${name}/blobs/uploads/?digest=${digest}`], { headers: ann, body: bytes });
    }
    for (const [at, { bytes, mediaType }] of artifacts.entries()) {
      const put = await send(fleet.owner, ['PUT', path(String(at))], {
        headers: { ...ann, 'content-type': mediaType },
        body: bytes,
      });
      expect(put.status).toBe(201);
    }
    // A scanner, and those who push, read what is held; a HEAD is answered to all.
    const [held, approved] = artifacts;
    for (const reference of ['0', held!.digest]) {
      expect((await send(one!, ['GET', path(reference)], { headers: ann })).status).toBe(200);
      expect((await send(one!, ['HEAD', path(reference)], { headers: bob })).status).toBe(200);
      expect((await send(one!, ['GET', path(reference)], { headers: bob })).status).toBe(403);
    }
    await runMillpond(fleet.owner, ['approve', `${name}@${approved!.digest}`]);
    expect((await send(one!, ['GET', path('1')], { headers: bob })).status).toBe(200);
    for (const blob of held!.blobs) await send(one!, ['GET', blobPath(name, blob.digest)], { headers: bob });
    await fleet.owner.stop();
    // Once its blobs are stored, the image is whole.
    await expect.poll(async () => (await send(one!, ['GET', path('1')], { headers: bob })).status).toBe(200);
    for (const reference of ['0', held!.digest]) {
      expect((await send(one!, ['GET', path(reference)], { headers: bob })).status).toBe(503);
    }
  });

  test('nothing has to be restarted for pushes to go on once it is back', async () => {
    await using fleet = await startHostedFleet();
    const [one] = fleet.others;
    await pushImage(one!, repository, image, '1');
    await fleet.restartOwner();
    const other = localImage({ label: 'two' });
    expect((await pushImage(one!, repository, other, '2')).status).toBe(201);
    const tags = await send(one!, ['GET', `/v2/${repository}/tags/list`]);
    expect(JSON.parse(tags.body.toString())).toMatchObject({ tags: ['1', '2'] });
  });
});

test('a request that a stranger passes on is refused by the owner, and says so to no client', async () => {
  await using fleet = await startHostedFleet();
  const headers = { 'millpond-pass': `x 1 ${'a'.repeat(22)} ${'b'.repeat(43)}` };
  const answer = await send(fleet.owner, ['POST', `/v2/${repository}/blobs/uploads/`], { headers });
  expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 403, code: 'DENIED' });
});

test('a replica that is taken for the owner and is not one says so', async () => {
  await using fleet = await startHostedFleet({ others: 1 });
  const [one] = fleet.others;
  await using astray = await fleet.add({
    config: { hosted: { repositories: ['local/**'], owner: one!.origin } },
  });
  const answer = await send(astray, ['POST', `/v2/${repository}/blobs/uploads/`]);
  expect(answer.status).toBe(508);
  expect(answer.body.toString()).toContain('hosted.owner differs');
});

test('a replica that passes on says who asks: rights hold as they do at the owner', async () => {
  await using folder = await temporaryFolder();
  const auth = {
    htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' }),
    policies: [
      { users: ['ann'], repositories: ['local/**'], actions: ['pull', 'push', 'delete'] },
      { users: ['bob'], repositories: ['local/bob'], actions: ['pull', 'push'] },
    ],
  };
  await using fleet = await startHostedFleet({ config: { auth } });
  const [one] = fleet.others;
  const ann = basic('ann', 'a-secret');
  const bob = basic('bob', 'b-secret');
  const blob = localBlob('what only ann may read');
  const push = (name: string, headers: Readonly<Record<string, string>>, body?: Buffer) =>
    send(one!, ['POST', `/v2/${name}/blobs/uploads/?digest=${blob.digest}`], { headers, ...(body && { body }) });
  expect((await push(repository, ann, blob.bytes)).status).toBe(201);
  expect((await push(repository, {}, blob.bytes)).status).toBe(401);
  expect((await push(repository, bob, blob.bytes)).status).toBe(403);
  // bob has to bring the bytes: that they are here is not for bob to know.
  expect((await push('local/bob', bob)).status).toBe(202);
  expect((await push('local/more', ann)).status).toBe(201);
  for (const [headers, status] of [
    [ann, 200],
    [bob, 403],
    [{}, 401],
  ] as const) {
    expect((await send(one!, ['GET', blobPath(repository, blob.digest)], { headers })).status).toBe(status);
    expect((await send(one!, ['DELETE', blobPath(repository, blob.digest)], { headers })).status).toBe(
      status === 200 ? 202 : status,
    );
    if (status === 200) await push(repository, ann, blob.bytes);
  }
});

test('a replica lists the hosted repositories that its caller may search, and no others', async () => {
  await using folder = await temporaryFolder();
  const auth = await annAndBob(folder.path);
  await using fleet = await startHostedFleet({ config: { auth } });
  const ann = basic('ann', 'a-secret');
  const artifact = localArtifact({});
  for (const name of ['local/app', 'local/bob']) {
    for (const { digest, bytes } of artifact.blobs) {
      await send(fleet.owner, ['POST', `/v2/${name}/blobs/uploads/?digest=${digest}`], { headers: ann, body: bytes });
    }
    const headers = { ...ann, 'content-type': artifact.mediaType };
    const put = await send(fleet.owner, ['PUT', `/v2/${name}/manifests/1`], { headers, body: artifact.bytes });
    expect(put.status).toBe(201);
  }
  const [replica] = fleet.others;
  const listed = async (headers: Readonly<Record<string, string>>): Promise<unknown> =>
    JSON.parse((await send(replica!, ['GET', '/v2/_catalog'], { headers })).body.toString());
  expect(await listed(ann)).toEqual({ repositories: ['local/app', 'local/bob'] });
  expect(await listed(basic('bob', 'b-secret'))).toEqual({ repositories: ['local/bob'] });
  expect((await send(replica!, ['GET', '/v2/_catalog'])).status).toBe(401);
});
