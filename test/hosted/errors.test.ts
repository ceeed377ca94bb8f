import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { localBlob, localImage } from '../support/images.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { type Answer, begin, codeOf, pushBlob, pushImage, putManifest, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const image = localImage({ label: 'one' });
const blob = localBlob('some bytes of a layer');
const elsewhere = `sha256:${'0'.repeat(64)}`;

let site: TestSite;
let guarded: TestSite;
const owned = new AsyncDisposableStack();

beforeAll(async () => {
  site = owned.use(
    await startHostedSite({
      hosted: { immutableTags: ['v*'], quota: { 'local/small': '10B', '**': '1MiB' }, mediaTypes: [...allowed] },
    }),
  );
  await pushImage(site, repository, image, 'v1');
  const folder = owned.use(await temporaryFolder());
  const auth = {
    htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' }),
    policies: [{ users: ['ann'], repositories: ['local/**'], actions: ['pull', 'push'] }],
  };
  guarded = owned.use(
    await startTestSite({
      upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
      config: { hosted: { repositories: ['local/**'] }, auth },
    }),
  );
});
afterAll(async () => await owned.disposeAsync());

const allowed = [
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.config.v1+json',
];

const path = (last: string, name = repository) => `/v2/${name}/${last}`;
const put = (reference: string, bytes: Buffer, type = image.mediaType) =>
  send(site, ['PUT', path(`manifests/${reference}`)], { headers: { 'content-type': type }, body: bytes });

/** How each code of the distribution-spec ("Error Codes"), and those of ours, is provoked, and with which status. */
const provoked: readonly (readonly [code: string, status: number, what: string, provoke: () => Promise<Answer>])[] = [
  ['BLOB_UNKNOWN', 404, 'a blob that is not here', () => send(site, ['GET', path(`blobs/${elsewhere}`)])],
  [
    'BLOB_UPLOAD_INVALID',
    400,
    'a Content-Range that cannot be read',
    async () => send(site, ['PATCH', await begin(site, repository)], { headers: { 'content-range': 'x' }, body: 'x' }),
  ],
  [
    'BLOB_UPLOAD_INVALID',
    416,
    'a chunk out of order',
    async () =>
      send(site, ['PATCH', await begin(site, repository)], { headers: { 'content-range': '5-5' }, body: 'x' }),
  ],
  [
    'BLOB_UPLOAD_UNKNOWN',
    404,
    'an upload that is not here',
    () => send(site, ['PUT', path(`blobs/uploads/nothing?digest=${blob.digest}`)]),
  ],
  [
    'DIGEST_INVALID',
    400,
    'a blob with another digest',
    async () => send(site, ['PUT', `${await begin(site, repository)}?digest=${elsewhere}`], { body: blob.bytes }),
  ],
  ['DIGEST_INVALID', 400, 'a digest that is none', () => send(site, ['GET', path('blobs/sha256:short')])],
  ['DIGEST_INVALID', 400, 'a manifest with another digest', () => put(elsewhere, image.bytes)],
  [
    'MANIFEST_BLOB_UNKNOWN',
    404,
    'a manifest whose blobs are not here',
    () => putManifest(site, 'local/empty', { reference: 'x', manifest: image }),
  ],
  ['MANIFEST_INVALID', 400, 'a manifest that is none', () => put('x', Buffer.from('no JSON'))],
  ['MANIFEST_INVALID', 400, 'a manifest of another type', () => put('x', image.bytes, allowed[1])],
  ['MANIFEST_INVALID', 400, 'a tag that is none', () => send(site, ['GET', path('manifests/-')])],
  ['MANIFEST_UNKNOWN', 404, 'a tag that is not here', () => send(site, ['GET', path('manifests/none')])],
  [
    'MANIFEST_UNKNOWN',
    404,
    'the deletion of a digest that is not here',
    () => send(site, ['DELETE', path(`manifests/${elsewhere}`)]),
  ],
  ['NAME_INVALID', 400, 'a name that is none', () => send(site, ['POST', path('blobs/uploads/', 'local/App')])],
  [
    'NAME_UNKNOWN',
    404,
    'the tags of a repository that is not here',
    () => send(site, ['GET', path('tags/list', 'local/none')]),
  ],
  [
    'RANGE_INVALID',
    416,
    'a range outside of the blob',
    () => send(site, ['GET', path(`blobs/${image.blobs[0]!.digest}`)], { headers: { range: 'bytes=99999999-' } }),
  ],
  [
    'SIZE_INVALID',
    400,
    'a chunk of another length than its range',
    async () =>
      send(site, ['PATCH', await begin(site, repository)], {
        headers: { 'content-range': '0-9' },
        body: [Buffer.from('x')],
      }),
  ],
  ['SIZE_INVALID', 413, 'a manifest that is too large', () => put('x', Buffer.alloc(5 * 1024 * 1024))],
  [
    'UNSUPPORTED',
    415,
    'a type that is not allowed',
    () => put('x', Buffer.from(JSON.stringify({ ...JSON.parse(image.bytes.toString()), artifactType: 'a/b' }))),
  ],
  [
    'UNSUPPORTED',
    405,
    'a push to a repository that is not hosted',
    () => send(site, ['POST', path('blobs/uploads/', 'library/app')]),
  ],
  ['DENIED', 403, 'an immutable tag that would move', () => putOther('v1')],
  ['DENIED', 403, 'the deletion of an immutable tag', () => send(site, ['DELETE', path('manifests/v1')])],
  ['QUOTA_EXCEEDED', 413, 'a repository without room', () => pushBlob(site, 'local/small', blob)],
  ['UNAUTHORIZED', 401, 'no credentials', () => send(guarded, ['GET', path('tags/list')])],
  [
    'UNAUTHORIZED',
    401,
    'wrong credentials',
    () => send(guarded, ['GET', path('tags/list')], { headers: basic('ann', 'x') }),
  ],
  [
    'DENIED',
    403,
    'a caller without the right',
    () => send(guarded, ['GET', path('tags/list')], { headers: basic('bob', 'b-secret') }),
  ],
  ['TOOMANYREQUESTS', 429, 'one wrong password after the other', tooMany],
  [
    'UNAVAILABLE',
    502,
    'an upstream that cannot be reached',
    () => send(site, ['GET', path('manifests/1', 'registry.test/app')]),
  ],
  ['EXTENSION_UNKNOWN', 404, 'an extension that is not here', () => send(site, ['GET', '/v2/_nothing/at/all'])],
];

async function putOther(tag: string): Promise<Answer> {
  const other = localImage({ label: 'two' });
  for (const part of other.blobs) await pushBlob(site, repository, part);
  return await put(tag, other.bytes);
}

async function tooMany(): Promise<Answer> {
  // The same password again is no further attempt.
  for (let attempt = 0; ; attempt += 1) {
    const headers = basic('eve', `wrong-${attempt}`);
    const answer = await send(guarded, ['GET', path('tags/list')], { headers });
    if (answer.status !== 401) return answer;
  }
}

test.each(provoked)('%s (%i): %s', async (code, status, _what, provoke) => {
  const answer = await provoke();
  expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status, code });
  const { errors } = JSON.parse(answer.body.toString()) as { errors: { message: string }[] };
  expect(errors).toHaveLength(1);
  expect(errors[0]!.message.length).toBeGreaterThan(10);
  expect(answer.headers['content-type']).toBe('application/json');
});

/** The table of the distribution-spec, "Error Codes". */
const ofTheSpec = [
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'SIZE_INVALID',
  'UNAUTHORIZED',
  'DENIED',
  'UNSUPPORTED',
  'TOOMANYREQUESTS',
];

test('every code of the spec is provoked above, and is in the table of the documentation with its status', async () => {
  const codes = new Set(provoked.map(([code]) => code));
  expect(ofTheSpec.filter((code) => !codes.has(code))).toEqual([]);
  const text = await readFile(fileURLToPath(new URL('../../docs/http-api.md', import.meta.url)), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('|'));
  const missing = provoked.filter(
    ([code, status]) => !rows.some((row) => row.includes(`\`${code}\``) && row.includes(String(status))),
  );
  expect(missing.map(([code, status]) => `${code} ${status}`)).toEqual([]);
});

test('an upload goes on after 401, 403 and 416, and ends with 400 for a wrong digest', async () => {
  const location = await begin(site, repository);
  const chunk = (start: number) =>
    send(site, ['PATCH', location], { headers: { 'content-range': `${start}-${start}` }, body: 'x' });
  expect((await chunk(7)).status).toBe(416);
  expect((await chunk(0)).status).toBe(202);
  expect((await send(site, ['PUT', `${location}?digest=${elsewhere}`])).status).toBe(400);
  expect((await send(site, ['GET', location])).status).toBe(404);
  const ann = basic('ann', 'a-secret');
  const started = await send(guarded, ['POST', path('blobs/uploads/')], { headers: ann });
  const target = String(started.headers['location']);
  for (const [headers, status] of [
    [{}, 401],
    [basic('bob', 'b-secret'), 403],
    [ann, 202],
  ] as const) {
    expect((await send(guarded, ['PATCH', target], { headers, body: 'x' })).status).toBe(status);
  }
});
