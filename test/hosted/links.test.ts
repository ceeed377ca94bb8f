import { describe, expect, test } from 'vitest';
import { localArtifact, localBlob, localImage } from '../support/images.ts';
import { blobPath, codeOf, pushBlob, pushImage, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const image = localImage({ label: 'one' });
const other = localImage({ label: 'two' });

const tagging = (query: string, name = repository) => `/v2/${name}/_millpond/manifests/tags?${query}`;

describe('a tag is given to a manifest that is here', () => {
  test('without its bytes, several at once', async () => {
    await using site = await startHostedSite();
    await pushImage(site, repository, image, '1');
    const put = await send(site, ['PUT', tagging(`digest=${image.digest}&tag=stable&tag=1.0`)]);
    expect(put).toMatchObject({
      status: 201,
      headers: {
        'docker-content-digest': image.digest,
        location: `/v2/${repository}/manifests/${image.digest}`,
        'oci-tag': 'stable, 1.0',
      },
    });
    for (const tag of ['stable', '1.0']) {
      const { headers } = await send(site, ['HEAD', `/v2/${repository}/manifests/${tag}`]);
      expect(headers['docker-content-digest']).toBe(image.digest);
    }
  });

  test.each([
    ['the repository does not have it', `digest=${other.digest}&tag=x`, 404, 'MANIFEST_UNKNOWN'],
    ['the digest is missing', 'tag=x', 400, 'DIGEST_INVALID'],
    ['the tag is missing', `digest=${image.digest}`, 400, 'MANIFEST_INVALID'],
    ['the tag is none', `digest=${image.digest}&tag=-`, 400, 'MANIFEST_INVALID'],
    ['the tag is immutable and stands elsewhere', `digest=${image.digest}&tag=v2`, 403, 'DENIED'],
  ])('unless %s', async (_name, query, status, code) => {
    await using site = await startHostedSite({ hosted: { immutableTags: ['v*'] } });
    await pushImage(site, repository, image, '1');
    await pushImage(site, 'local/third', other, 'v2');
    if (query.includes('v2')) await pushImage(site, repository, localImage({ label: 'v2' }), 'v2');
    const answer = await send(site, ['PUT', tagging(query)]);
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status, code });
  });

  test('by PUT only, and only in a hosted repository', async () => {
    await using site = await startHostedSite();
    const path = `digest=${image.digest}&tag=x`;
    expect((await send(site, ['POST', tagging(path)])).status).toBe(405);
    expect((await send(site, ['PUT', tagging(path, 'registry.test/app')])).status).toBe(405);
    expect((await send(site, ['PUT', tagging(path, 'local/App')])).status).toBe(400);
  });
});

test('a manifest that is deleted as a blob takes its tags and its place among the referrers along', async () => {
  await using site = await startHostedSite();
  await pushImage(site, repository, image, '1');
  const signature = localArtifact({ artifactType: 'application/x-signature', subject: image });
  await pushImage(site, repository, signature, 'signed');
  expect((await send(site, ['DELETE', blobPath(repository, signature.digest)])).status).toBe(202);
  const tags = await send(site, ['GET', `/v2/${repository}/tags/list`]);
  expect(JSON.parse(tags.body.toString())).toEqual({ name: repository, tags: ['1'] });
  const referrers = await send(site, ['GET', `/v2/${repository}/referrers/${image.digest}`]);
  expect(JSON.parse(referrers.body.toString())).toMatchObject({ manifests: [] });
  for (const reference of [signature.digest, 'signed']) {
    expect((await send(site, ['HEAD', `/v2/${repository}/manifests/${reference}`])).status).toBe(404);
  }
});

test('a manifest under an immutable tag is not deleted as a blob either', async () => {
  await using site = await startHostedSite({ hosted: { immutableTags: ['v*'] } });
  await pushImage(site, repository, image, 'v1');
  const answer = await send(site, ['DELETE', blobPath(repository, image.digest)]);
  expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 403, code: 'DENIED' });
  expect((await send(site, ['GET', `/v2/${repository}/manifests/v1`])).body.equals(image.bytes)).toBe(true);
});

describe('a POST with a digest', () => {
  const blob = localBlob('bytes of a layer');

  test('links a blob that another repository has, without its bytes', async () => {
    await using site = await startHostedSite();
    await pushBlob(site, repository, blob);
    const linked = await send(site, ['POST', `/v2/local/other/blobs/uploads/?digest=${blob.digest}`]);
    expect(linked).toMatchObject({ status: 201, headers: { location: blobPath('local/other', blob.digest) } });
    expect((await send(site, ['GET', blobPath('local/other', blob.digest)])).body.equals(blob.bytes)).toBe(true);
  });

  test('begins an upload where none has it', async () => {
    await using site = await startHostedSite();
    expect((await send(site, ['POST', `/v2/local/other/blobs/uploads/?digest=${blob.digest}`])).status).toBe(202);
  });

  test('counts what it links against the quota of the repository', async () => {
    await using site = await startHostedSite({ hosted: { quota: { 'local/small': '5B', '**': '1MiB' } } });
    await pushBlob(site, repository, blob);
    const answer = await send(site, ['POST', `/v2/local/small/blobs/uploads/?digest=${blob.digest}`]);
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
  });
});
