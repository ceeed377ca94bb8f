import { describe, expect, test, vi } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { filesOf } from './support.ts';

const layer = { mediaType: 'application/x', digest: digestOf(Buffer.from('layer')), size: 5 };
const path = '/v2/library/app/manifests';

describe('a manifest that is odd and has the right digest', () => {
  test.each<[string, string, string | Buffer]>([
    ['null in place of its list of manifests', ociIndex, '{"schemaVersion":2,"manifests":null}'],
    ['null in place of its layers', ociManifest, '{"schemaVersion":2,"layers":null}'],
    ['null for an entry', ociIndex, `{"schemaVersion":2,"manifests":[null,${JSON.stringify(layer)}]}`],
    ['a layer without a size', ociManifest, `{"layers":[{"mediaType":"application/x","digest":"${layer.digest}"}]}`],
    ['a size that is a text', ociManifest, `{"layers":[{"digest":"${layer.digest}","size":"5"}]}`],
    ['nothing but layers', ociManifest, '{"layers":[]}'],
    ['bytes that are no UTF-8', ociManifest, latin1('{"layers":[],"annotations":{"author":"Ren\xe9"}}')],
    ['a byte order mark', ociManifest, '\ufeff{"schemaVersion":2,"layers":[]}'],
    ['a member twice', ociManifest, '{"layers":[],"layers":[],"__proto__":null}'],
    ['white space around it', ociManifest, '\n\t {"layers":[]} \n'],
  ])('and has %s is served by tag and digest, and kept', async (_, mediaType, body) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const { digest, bytes } = upstream.addManifest('library/app', '1', body, mediaType);
    for (const reference of ['1', digest, '1']) {
      const reply = await site.get(`${path}/${reference}`);
      expect(reply).toMatchObject({ status: 200, complete: true, sha256: digest });
      expect(reply.body.equals(bytes)).toBe(true);
      expect(reply.headers['content-type']).toBe(mediaType);
    }
    expect(upstream.requests.filter(({ method }) => method === 'GET')).toHaveLength(1);
  });

  test.each<[string, string]>([
    ['no JSON', 'this is no JSON'],
    ['no object', '[]'],
    ['nothing that a manifest has', '{"schemaVersion":2}'],
    ['2,000,000 lists within each other', `{"layers":${'['.repeat(2_000_000)}${']'.repeat(2_000_000)}}`],
    ['200,000 annotations', JSON.stringify({ layers: [], annotations: numbered(200_000) })],
    ['30,000 layers', JSON.stringify({ layers: Array.from({ length: 30_000 }, () => layer) })],
  ])('and is %s is passed on without being parsed or kept', async (_, body) => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({
      upstreams: { 'docker.io': upstream },
      config: { cache: { maxManifestSize: '8MiB' } },
    });
    const { digest } = upstream.addManifest('library/app', '1', body, ociManifest);
    const longest = vi.spyOn(JSON, 'parse');
    for (const reference of [digest, '1', digest]) {
      expect(await site.get(`${path}/${reference}`)).toMatchObject({ status: 200, complete: true, sha256: digest });
    }
    const parsed = longest.mock.calls.map(([text]) => text.length);
    longest.mockRestore();
    expect(Math.max(0, ...parsed)).toBeLessThan(100_000);
    expect(await filesOf(site)).toEqual([]);
  });

  test('and is asked for by a tag whose digest the upstream does not tell has to look like a manifest', async () => {
    await using upstream = await startRegistry({ digestHeader: false });
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    upstream.addManifest('library/app', '1', '{"schemaVersion":2}', ociManifest);
    upstream.addManifest('library/app', '2', '{"schemaVersion":2,"layers":null}', ociManifest);
    expect((await site.get(`${path}/1`)).status).toBe(502);
    expect((await site.get(`${path}/2`)).status).toBe(200);
  });

  test('and is served for another digest is refused', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const { digest } = upstream.addManifest('library/app', undefined, 'this is no JSON', ociManifest);
    upstream.fault(digest, { kind: 'flip' });
    expect((await site.get(`${path}/${digest}`)).status).toBe(502);
  });
});

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function numbered(count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, number) => [`k${number}`, 'v']));
}
