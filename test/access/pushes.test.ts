import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Answer, send } from '../hosted/support.ts';
import { localBlob, localImage } from '../support/images.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { pushAs } from './push.ts';
import { basic, htpasswdFile } from './support.ts';

const [ann, bob] = [basic('ann', 'a-secret'), basic('bob', 'b-secret')];
const image = localImage({ label: 'of ann' });
const layer = image.blobs[0]!;
const absent = localImage({ label: 'of no one' });
const ociManifest = 'application/vnd.oci.image.manifest.v1+json';

// Both may push, each to a folder of its own: a push must tell and give nothing of the other's.
describe('a user that pushes beside another one', () => {
  const owned = new AsyncDisposableStack();
  let site: TestSite;
  beforeAll(async () => {
    const folder = owned.use(await temporaryFolder());
    const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' });
    const policies = [
      { users: ['*'], repositories: ['local/{user}/**'], actions: ['pull', 'push', 'delete', 'search'] },
    ];
    site = owned.use(
      await startTestSite({
        upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
        config: { auth: { htpasswdFile: file, policies }, hosted: { repositories: ['local/**'] } },
      }),
    );
    await pushAs(site, ann, { repository: 'local/ann/app', image, tag: 'v1' });
  });
  afterAll(() => owned.disposeAsync());

  const asBob = (method: string, path: string, body?: Buffer, contentType = 'application/octet-stream') =>
    send(site, [method, path], { headers: { ...bob, 'content-type': contentType }, ...(body && { body }) });
  /** What a client can tell of an answer; digests and ids of the request itself tell nothing. */
  const seen = ({ status, headers, body }: Answer) => {
    const text = body.toString().replaceAll(/sha256:[0-9a-f]{64}/g, 'DIGEST');
    return [status, text, Object.keys(headers).filter((name) => name !== 'date')];
  };

  test.each<[string, (digest: string) => readonly [method: string, path: string]]>([
    ['a mount that names where from', (digest) => ['POST', `uploads/?mount=${digest}&from=local/ann/app`]],
    ['a mount that names its own repository', (digest) => ['POST', `uploads/?mount=${digest}&from=local/bob/app`]],
    ['a mount from anywhere', (digest) => ['POST', `uploads/?mount=${digest}`]],
    ['a mount from a name that is none', (digest) => ['POST', `uploads/?mount=${digest}&from=local/ann/../ann/app`]],
    ['an upload at once without bytes', (digest) => ['POST', `uploads/?digest=${digest}`]],
    ['a look at the blob', (digest) => ['HEAD', digest]],
    ['a read of the blob', (digest) => ['GET', digest]],
    ['a deletion of the blob', (digest) => ['DELETE', digest]],
  ])('cannot tell from %s whether the other has it, nor gets it', async (_, asked) => {
    const [there, nowhere] = await Promise.all(
      [layer, absent.blobs[0]!].map(({ digest }) => {
        const [method, path] = asked(digest);
        return asBob(method, `/v2/local/bob/app/blobs/${path}`);
      }),
    );
    expect(seen(there!)).toEqual(seen(nowhere!));
    expect([202, 404]).toContain(there!.status);
    expect((await asBob('GET', `/v2/local/bob/app/blobs/${layer.digest}`)).status).toBe(404);
  });

  test('cannot get a blob of the other by a manifest that names it', async () => {
    const config = localBlob('{}', 'application/vnd.oci.image.config.v1+json');
    expect((await asBob('POST', `/v2/local/bob/app/blobs/uploads/?digest=${config.digest}`, config.bytes)).status).toBe(
      201,
    );
    const answers = await Promise.all(
      [layer, absent.blobs[0]!].map((one) => {
        const parts = [config, one].map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
        const manifest = { schemaVersion: 2, mediaType: ociManifest, config: parts[0], layers: [parts[1]] };
        return asBob('PUT', '/v2/local/bob/app/manifests/v1', Buffer.from(JSON.stringify(manifest)), ociManifest);
      }),
    );
    expect(seen(answers[0]!)).toEqual(seen(answers[1]!));
    expect(answers[0]!.status).toBe(404);
    expect((await asBob('GET', `/v2/local/bob/app/blobs/${layer.digest}`)).status).toBe(404);
  });

  test('cannot get an image of the other by an index that lists it, or by attaching something to it', async () => {
    const { mediaType, digest, size } = image;
    const ociIndex = 'application/vnd.oci.image.index.v1+json';
    const index = { schemaVersion: 2, mediaType: ociIndex, manifests: [{ mediaType, digest, size }] };
    await asBob('PUT', '/v2/local/bob/app/manifests/index', Buffer.from(JSON.stringify(index)), ociIndex);
    const config = localBlob('{}', 'application/vnd.oci.empty.v1+json');
    await asBob('POST', `/v2/local/bob/app/blobs/uploads/?digest=${config.digest}`, config.bytes);
    const empty = { mediaType: config.mediaType, digest: config.digest, size: config.size };
    const attached = {
      schemaVersion: 2,
      mediaType: ociManifest,
      artifactType: 'text/evil',
      config: empty,
      layers: [empty],
      subject: { mediaType, digest, size },
    };
    const pushed = await asBob(
      'PUT',
      '/v2/local/bob/app/manifests/note',
      Buffer.from(JSON.stringify(attached)),
      ociManifest,
    );
    expect(pushed.status).toBe(201);
    expect((await asBob('GET', `/v2/local/bob/app/manifests/${digest}`)).status).toBe(404);
    expect((await asBob('GET', `/v2/local/bob/app/_millpond/images/${digest}`)).status).toBe(404);
    // Nor does the other see what was attached.
    const { body } = await send(site, ['GET', `/v2/local/ann/app/referrers/${digest}`], { headers: ann });
    expect(JSON.parse(body.toString())).toMatchObject({ manifests: [] });
  });

  test('has nothing of an upload of the other, wherever it says that this belongs', async () => {
    const begun = await send(site, ['POST', '/v2/local/ann/app/blobs/uploads/'], { headers: ann });
    const location = String(begun.headers['location']);
    const id = location.split('/').at(-1)!;
    const own = `/v2/local/bob/app/blobs/uploads/${id}`;
    const bytes = Buffer.from('of ann, in part');
    await send(site, ['PATCH', location], {
      headers: { ...ann, 'content-type': 'application/octet-stream' },
      body: bytes,
    });
    const { digest } = localBlob(bytes);
    for (const path of [location, own]) {
      for (const [method, body] of [
        ['GET', undefined],
        ['PATCH', Buffer.from('more')],
        ['PUT', undefined],
        ['DELETE', undefined],
      ] as const) {
        const target = method === 'PUT' ? `${path}?digest=${digest}` : path;
        expect([method, target, (await asBob(method, target, body)).status]).toEqual([
          method,
          target,
          path === own ? 404 : 403,
        ]);
      }
    }
    for (const guessed of ['..', '%2e%2e', `../${id}`, `${id}/../${id}`, '', '.', `${id.slice(0, -1)}0`]) {
      const answer = await asBob('GET', `/v2/local/bob/app/blobs/uploads/${guessed}`);
      expect([guessed, answer.status >= 400]).toEqual([guessed, true]);
    }
    // It goes on as if nothing had been tried.
    const finished = await send(site, ['PUT', `${location}?digest=${digest}`], { headers: ann });
    expect(finished.status).toBe(201);
  });
});
