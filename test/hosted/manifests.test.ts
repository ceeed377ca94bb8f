import { describe, expect, test } from 'vitest';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { localArtifact, localBlob, localImage, localIndex } from '../support/images.ts';
import { begin, blobPath, codeOf, pushBlob, pushImage, putManifest, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const image = localImage({ label: 'one' });
const other = localImage({ label: 'two' });

describe('a manifest is pushed', () => {
  test('by tag and read back by tag and digest, byte for byte', async () => {
    await using site = await startHostedSite();
    const put = await pushImage(site, repository, image, '1');
    expect(put).toMatchObject({
      status: 201,
      headers: { 'docker-content-digest': image.digest, location: `/v2/${repository}/manifests/${image.digest}` },
    });
    for (const reference of ['1', image.digest]) {
      const { status, body, headers } = await send(site, ['GET', `/v2/${repository}/manifests/${reference}`]);
      expect(status).toBe(200);
      expect(body.equals(image.bytes)).toBe(true);
      expect(headers).toMatchObject({ 'content-type': ociManifest, 'docker-content-digest': image.digest });
    }
  });

  test('by digest with tags beside', async () => {
    await using site = await startHostedSite();
    for (const blob of image.blobs) await pushBlob(site, repository, blob);
    const put = await putManifest(site, repository, { reference: `${image.digest}?tag=a&tag=b`, manifest: image });
    expect(put).toMatchObject({ status: 201, headers: { 'oci-tag': 'a, b' } });
    for (const tag of ['a', 'b']) {
      const { headers } = await send(site, ['HEAD', `/v2/${repository}/manifests/${tag}`]);
      expect(headers['docker-content-digest']).toBe(image.digest);
    }
  });

  test('as an index, after its children', async () => {
    await using site = await startHostedSite();
    const index = localIndex('many', ['amd64', 'arm64']);
    const early = await putManifest(site, repository, { reference: 'many', manifest: index });
    expect({ status: early.status, code: codeOf(early) }).toEqual({ status: 404, code: 'MANIFEST_BLOB_UNKNOWN' });
    expect((await pushImage(site, repository, index, 'many')).status).toBe(201);
    const { headers } = await send(site, ['GET', `/v2/${repository}/manifests/many`]);
    expect(headers['content-type']).toBe(ociIndex);
  });

  test('as an index without all its children, where sparse indexes are accepted', async () => {
    await using site = await startHostedSite({ hosted: { sparseIndexes: true } });
    const index = localIndex('sparse', ['amd64', 'arm64']);
    const [child, left] = index.manifests;
    if (!child || !left) throw new Error('two children');
    await pushImage(site, repository, child);
    expect((await putManifest(site, repository, { reference: 'sparse', manifest: index })).status).toBe(201);
    const got = await send(site, ['GET', `/v2/${repository}/manifests/sparse`]);
    expect(got.body.equals(index.bytes)).toBe(true);
    expect((await send(site, ['GET', `/v2/${repository}/manifests/${child.digest}`])).status).toBe(200);
    const absent = await send(site, ['GET', `/v2/${repository}/manifests/${left.digest}`]);
    expect({ status: absent.status, code: codeOf(absent) }).toEqual({ status: 404, code: 'MANIFEST_UNKNOWN' });
    // A child that comes later needs what it names, as ever.
    const early = await putManifest(site, repository, { reference: left.digest, manifest: left });
    expect({ status: early.status, code: codeOf(early) }).toEqual({ status: 404, code: 'MANIFEST_BLOB_UNKNOWN' });
    expect((await pushImage(site, repository, left)).status).toBe(201);
  });

  test('for a subject, which lists it from then on', async () => {
    await using site = await startHostedSite();
    await pushImage(site, repository, image, '1');
    const signature = localArtifact({
      artifactType: 'application/x-signature',
      subject: image,
      annotations: { a: 'b' },
    });
    const put = await pushImage(site, repository, signature);
    expect(put.headers['oci-subject']).toBe(image.digest);
    const listed = async (query = '') => {
      const path = `/v2/${repository}/referrers/${image.digest}${query}`;
      const { body, headers } = await send(site, ['GET', path]);
      expect(headers['content-type']).toBe(ociIndex);
      return { ...(JSON.parse(body.toString()) as { manifests: object[] }), filters: headers['oci-filters-applied'] };
    };
    const descriptor = {
      mediaType: ociManifest,
      digest: signature.digest,
      size: signature.size,
      artifactType: 'application/x-signature',
      annotations: { a: 'b' },
    };
    expect((await listed()).manifests).toEqual([descriptor]);
    expect(await listed('?artifactType=application/x-other')).toMatchObject({ manifests: [], filters: 'artifactType' });
    await send(site, ['DELETE', `/v2/${repository}/manifests/${signature.digest}`]);
    expect((await listed()).manifests).toEqual([]);
  });

  test('and listed beside what a client keeps under the fallback tag', async () => {
    await using site = await startHostedSite();
    await pushImage(site, repository, image, '1');
    const listed = {
      mediaType: ociManifest,
      digest: other.digest,
      size: other.size,
      artifactType: 'application/x-old',
    };
    await pushImage(site, repository, other);
    const index = localBlob(JSON.stringify({ schemaVersion: 2, mediaType: ociIndex, manifests: [listed] }), ociIndex);
    await putManifest(site, repository, { reference: image.digest.replace(':', '-'), manifest: index });
    const { body } = await send(site, ['GET', `/v2/${repository}/referrers/${image.digest}`]);
    expect(JSON.parse(body.toString())).toMatchObject({ manifests: [listed] });
  });
});

describe('a manifest is refused', () => {
  test('whose blobs are not there', async () => {
    await using site = await startHostedSite();
    const refused = await putManifest(site, repository, { reference: '1', manifest: image });
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 404, code: 'MANIFEST_BLOB_UNKNOWN' });
    expect((await send(site, ['GET', `/v2/${repository}/manifests/1`])).status).toBe(404);
  });

  test('that is other than its digest, its type, or a manifest at all', async () => {
    await using site = await startHostedSite();
    for (const blob of image.blobs) await pushBlob(site, repository, blob);
    const put = async (reference: string, content: string, type = ociManifest) => {
      const refused = await putManifest(site, repository, { reference, manifest: localBlob(content), type });
      return { status: refused.status, code: codeOf(refused) };
    };
    const text = image.bytes.toString();
    expect(await put(image.digest, `  ${text}`)).toEqual({ status: 400, code: 'DIGEST_INVALID' });
    expect(await put('1', text, ociIndex)).toEqual({ status: 400, code: 'MANIFEST_INVALID' });
    expect(await put('1', 'no JSON')).toEqual({ status: 400, code: 'MANIFEST_INVALID' });
    expect(await put('1', '{"schemaVersion":2}')).toEqual({ status: 400, code: 'MANIFEST_INVALID' });
    expect(await put('sha256:short', text)).toEqual({ status: 400, code: 'DIGEST_INVALID' });
    expect(await put('1', text.replace('"size":', '"size":1'))).toEqual({ status: 400, code: 'SIZE_INVALID' });
  });

  test('that has more than 4 MiB', async () => {
    await using site = await startHostedSite();
    const large = localBlob(Buffer.alloc(4 * 1024 * 1024 + 1, 0x20));
    const refused = await putManifest(site, repository, { reference: '1', manifest: large, type: ociManifest });
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 413, code: 'SIZE_INVALID' });
  });

  test('whose type is not to be had, by name', async () => {
    await using site = await startHostedSite({ hosted: { mediaTypes: [ociManifest, 'application/x-allowed'] } });
    const allowed = localArtifact({
      artifactType: 'application/x-allowed',
      config: localBlob('{}', 'application/x-allowed'),
    });
    expect((await pushImage(site, repository, allowed, '1')).status).toBe(201);
    const refused = await pushImage(site, repository, localArtifact({ artifactType: 'application/x-other' }), '2');
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 415, code: 'UNSUPPORTED' });
    expect(refused.body.toString()).toContain('application/x-other');
  });

  test('of schema 1', async () => {
    await using site = await startHostedSite();
    const schema1 = localBlob('{"schemaVersion":1,"fsLayers":[]}');
    const type = 'application/vnd.docker.distribution.manifest.v1+json';
    const refused = await putManifest(site, repository, { reference: '1', manifest: schema1, type });
    expect(refused.status).toBe(415);
  });
});

describe('rules', () => {
  test('a repository past its quota takes nothing more, before it is sent', async () => {
    await using site = await startHostedSite({ hosted: { quota: { 'local/small': '1KiB', '**': '1GiB' } } });
    const large = localBlob(Buffer.alloc(2048));
    const location = await begin(site, 'local/small');
    const refused = await send(site, ['PUT', `${location}?digest=${large.digest}`], { body: large.bytes });
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
    for (const bytes of [600, 400])
      expect((await pushBlob(site, 'local/small', localBlob(Buffer.alloc(bytes)))).status).toBe(201);
    const last = await pushBlob(site, 'local/small', localBlob('x'.repeat(100)));
    expect({ status: last.status, code: codeOf(last) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
    expect((await pushBlob(site, 'local/other', large)).status).toBe(201);
  });

  test('an immutable tag is neither moved nor deleted, and may be pushed again as it is', async () => {
    await using site = await startHostedSite({ hosted: { immutableTags: ['v*'] } });
    await pushImage(site, repository, image, 'v1');
    await pushImage(site, repository, image, 'latest');
    expect((await pushImage(site, repository, image, 'v1')).status).toBe(201);
    for (const refused of [
      await pushImage(site, repository, other, 'v1'),
      await send(site, ['DELETE', `/v2/${repository}/manifests/v1`]),
      await send(site, ['DELETE', `/v2/${repository}/manifests/${image.digest}`]),
    ]) {
      expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 403, code: 'DENIED' });
    }
    expect((await pushImage(site, repository, other, 'latest')).status).toBe(201);
  });

  test('a mirrored repository takes no push, whatever ns says', async () => {
    await using site = await startHostedSite();
    for (const path of [
      '/v2/registry.test/app/blobs/uploads/',
      '/v2/app/blobs/uploads/?ns=local/x',
      '/v2/other/app/blobs/uploads/',
    ]) {
      const refused = await send(site, ['POST', path]);
      expect({ path, status: refused.status, code: codeOf(refused) }).toEqual({
        path,
        status: 405,
        code: 'UNSUPPORTED',
      });
    }
    expect((await send(site, ['POST', `/v2/${repository}/blobs/uploads/?ns=registry.test`])).status).toBe(202);
  });

  test('pulls name a registry of its own by ns', async () => {
    await using site = await startHostedSite({ hosted: { repositories: ['registry.ours/**'] } });
    await pushImage(site, 'registry.ours/app', image, '1');
    expect((await send(site, ['GET', '/v2/app/manifests/1?ns=registry.ours'])).body.equals(image.bytes)).toBe(true);
  });
});

describe('what is deleted', () => {
  test('a tag alone leaves its manifest; a digest takes its tags with it', async () => {
    await using site = await startHostedSite();
    await pushImage(site, repository, image, 'a');
    await pushImage(site, repository, image, 'b');
    expect((await send(site, ['DELETE', `/v2/${repository}/manifests/a`])).status).toBe(202);
    expect((await send(site, ['HEAD', `/v2/${repository}/manifests/a`])).status).toBe(404);
    expect((await send(site, ['HEAD', `/v2/${repository}/manifests/b`])).status).toBe(200);
    expect((await send(site, ['DELETE', `/v2/${repository}/manifests/${image.digest}`])).status).toBe(202);
    for (const reference of ['b', image.digest]) {
      expect((await send(site, ['GET', `/v2/${repository}/manifests/${reference}`])).status).toBe(404);
    }
    const again = await send(site, ['DELETE', `/v2/${repository}/manifests/${image.digest}`]);
    expect({ status: again.status, code: codeOf(again) }).toEqual({ status: 404, code: 'MANIFEST_UNKNOWN' });
    const unknown = await send(site, ['DELETE', blobPath(repository, other.digest)]);
    expect({ status: unknown.status, code: codeOf(unknown) }).toEqual({ status: 404, code: 'BLOB_UNKNOWN' });
  });
});

describe('tags are listed', () => {
  test('in the order of bytes, whole or in pages', async () => {
    await using site = await startHostedSite();
    for (const tag of ['b', 'A', 'a', '1.10', '1.9']) await pushImage(site, repository, image, tag);
    const list = async (query: string) => {
      const { body, headers } = await send(site, ['GET', `/v2/${repository}/tags/list${query}`]);
      return { ...(JSON.parse(body.toString()) as { name: string; tags: string[] }), link: headers['link'] };
    };
    expect(await list('')).toEqual({ name: repository, tags: ['1.10', '1.9', 'A', 'a', 'b'], link: undefined });
    const first = await list('?n=2');
    expect(first).toMatchObject({ tags: ['1.10', '1.9'] });
    const [, next = ''] = /^<[^?]+(\?[^>]+)>; rel="next"$/.exec(String(first.link)) ?? [];
    expect(await list(next)).toMatchObject({ tags: ['A', 'a'] });
    expect(await list('?n=2&last=A')).toMatchObject({ tags: ['a', 'b'], link: undefined });
    expect(await list('?n=0')).toMatchObject({ tags: [], link: undefined });
    const none = await send(site, ['GET', '/v2/local/none/tags/list']);
    expect({ status: none.status, code: codeOf(none) }).toEqual({ status: 404, code: 'NAME_UNKNOWN' });
  });
});
