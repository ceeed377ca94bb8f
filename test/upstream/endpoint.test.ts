import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { CountedMemory, TransferBody } from '../../src/transport/body.ts';
import { type Ask, type Asker, resourceUrl } from '../../src/upstream/asking.ts';
import { Endpoint } from '../../src/upstream/endpoint.ts';
import type { HttpAnswer } from '../../src/upstream/http-client.ts';
import { Profile } from '../../src/upstream/profile.ts';
import { accept, bytesOf, never } from './support.ts';

const signal = never();
const manifest = Buffer.from('{"schemaVersion":2}');
const digest = digestOf(manifest);

interface Reply {
  readonly status?: number;
  readonly headers?: HttpAnswer['headers'];
  readonly body?: Buffer | string;
  readonly foreign?: boolean;
  readonly codings?: readonly string[];
  /** Default: that of the body; `null`: none is announced. */
  readonly contentLength?: number | null;
}

/** An endpoint whose questions are answered in order, and what becomes of the bodies. */
function endpointWith(replies: readonly Reply[], { memory }: { memory?: CountedMemory } = {}) {
  const asked: Ask[] = [];
  const destroyed: number[] = [];
  const read: number[] = [];
  const ask = (question: Ask): Promise<HttpAnswer> => {
    const index = asked.length;
    const reply = replies[index];
    asked.push(question);
    if (reply === undefined) throw new Error(`nothing answers ${question.method} ${question.path}`);
    const bytes = Buffer.from(reply.body ?? '');
    const body: TransferBody = {
      async *[Symbol.asyncIterator]() {
        yield await Promise.resolve(bytes);
        read.push(index);
      },
      destroy: () => destroyed.push(index),
    };
    const { status = 200, headers = {}, foreign = false, codings = [], contentLength = bytes.length } = reply;
    return Promise.resolve({
      status,
      headers,
      foreign,
      codings,
      contentLength: contentLength ?? undefined,
      body,
      url: new URL('https://reg.example/v2/a/answered?query'),
      code: undefined,
    });
  };
  const profile = new Profile();
  const endpoint = new Endpoint({
    upstream: 'x',
    url: 'https://reg.example/',
    patienceMs: 60_000,
    asker: { ask } as unknown as Asker,
    profile,
    maxManifestBytes: 100,
    memory: memory && { manifests: memory, lists: memory },
  });
  return { endpoint, asked, profile, destroyed, read };
}

const tagged = { headers: { 'docker-content-digest': digest, 'content-type': 'x/y' } };

describe('the head of a manifest', () => {
  test('is what a HEAD says', async () => {
    const { endpoint, asked } = endpointWith([{ ...tagged, contentLength: 7 }]);
    expect(await endpoint.headManifest('a', 'v1', { accept, signal })).toEqual({ digest, contentType: 'x/y', size: 7 });
    expect(asked).toMatchObject([
      {
        method: 'HEAD',
        repository: 'a',
        subject: 'manifest',
        path: 'manifests/v1',
        headers: { accept: accept.join(', ') },
        accepted: 'any',
      },
    ]);
  });

  test.each<[string, Reply, object]>([
    ['no digest', { contentLength: 7 }, { digest: undefined, contentType: '', size: 7 }],
    [
      'a digest with spaces',
      { headers: { 'docker-content-digest': ` ${digest} ` }, contentLength: 7 },
      { digest, contentType: '', size: 7 },
    ],
    [
      'something that is no digest',
      { headers: { 'docker-content-digest': 'sha256:1' }, contentLength: 7 },
      { digest: undefined, contentType: '', size: 7 },
    ],
    ['the length 0', { ...tagged, contentLength: 0 }, { digest, contentType: 'x/y', size: undefined }],
    ['no length', { ...tagged, contentLength: null }, { digest, contentType: 'x/y', size: undefined }],
    ['a coding', { ...tagged, codings: ['gzip'], contentLength: 7 }, { digest, contentType: 'x/y', size: undefined }],
    ['203', { ...tagged, status: 203, contentLength: 7 }, { digest, contentType: 'x/y', size: 7 }],
    [
      'the age of a mirror',
      { headers: { 'cache-status': 'millpond;hit', age: '5' }, contentLength: 7 },
      { digest: undefined, contentType: '', size: 7, age: { seconds: 5, isStale: false } },
    ],
    [
      'the age of a mirror elsewhere',
      { headers: { 'cache-status': 'millpond;hit', age: '5' }, contentLength: 7, foreign: true },
      { digest: undefined, contentType: '', size: 7 },
    ],
  ])('with %s is read', async (_, reply, expected) => {
    const { endpoint } = endpointWith([reply]);
    expect(await endpoint.headManifest('a', 'v1', { accept, signal })).toEqual(expected);
  });

  test('is that of a GET where a HEAD says no, and from then on', async () => {
    const { endpoint, asked, profile } = endpointWith([
      { status: 404 },
      { body: manifest, headers: { 'content-type': 'x/y' } },
      { body: manifest },
    ]);
    const head = await endpoint.headManifest('a', 'v1', { accept, signal });
    expect(head).toMatchObject({ digest, contentType: 'x/y', size: manifest.length, answer: { bytes: manifest } });
    expect(profile.get('manifestHead')).toBe('unreliable');
    await endpoint.headManifest('a', 'v1', { accept, signal });
    expect(asked.map(({ method }) => method)).toEqual(['HEAD', 'GET', 'GET']);
  });

  test('of a wrong length makes lengths of heads worth nothing', async () => {
    const { endpoint, profile } = endpointWith([
      { ...tagged, contentLength: manifest.length },
      { ...tagged, body: manifest },
      { ...tagged, contentLength: 7 },
      { body: manifest },
      { ...tagged, body: manifest },
      { ...tagged, contentLength: 7 },
    ]);
    const head = () => endpoint.headManifest('a', 'v1', { accept, signal });
    const get = (reference: string) => endpoint.getManifest('a', reference, { accept, signal });
    await head();
    await get('v1');
    expect(profile.get('headLength')).toBe('trusted');
    expect((await head()).size).toBe(7);
    await get('v1');
    expect(profile.get('headLength')).toBe('trusted');
    await get(digest);
    expect(profile.get('headLength')).toBe('wrong');
    expect((await head()).size).toBeUndefined();
  });
});

describe('a manifest', () => {
  test('is got with its digest and age', async () => {
    const headers = { ...tagged.headers, 'cache-status': 'millpond;hit;detail=stale', age: '9' };
    const { endpoint, asked } = endpointWith([{ headers, body: manifest }]);
    expect(await endpoint.getManifest('a', 'v1', { accept, signal })).toEqual({
      bytes: manifest,
      contentType: 'x/y',
      digest,
      age: { seconds: 9, isStale: true },
    });
    expect(asked[0]).toMatchObject({ method: 'GET', subject: 'manifest', path: 'manifests/v1', accepted: [206] });
    expect(asked[0]?.headers).toEqual({ accept: accept.join(', ') });
  });

  test.each<[string, Reply, string, Buffer]>([
    ['by its digest', { body: gzipSync(manifest), codings: ['gzip'] }, digest, manifest],
    ['by its look', { body: gzipSync(manifest), codings: ['gzip'] }, 'v1', manifest],
    ['by its digest as it is', { body: manifest, codings: ['gzip'] }, digest, manifest],
    [
      'by the digest in the header',
      { body: gzipSync(manifest), codings: ['gzip'], headers: { 'docker-content-digest': digest } },
      'v1',
      manifest,
    ],
  ])('with a coding is read: %s', async (_, reply, reference, expected) => {
    const { endpoint } = endpointWith([reply]);
    expect((await endpoint.getManifest('a', reference, { accept, signal })).bytes).toEqual(expected);
  });

  test.each([
    ['text', false],
    ['[]', false],
    ['null', false],
    ['7', false],
  ])('of a tag does not look like %s', async (text) => {
    const coded = gzipSync(text);
    const { endpoint } = endpointWith([{ body: coded, codings: ['gzip'] }]);
    expect((await endpoint.getManifest('a', 'v1', { accept, signal })).bytes).toEqual(coded);
  });

  test.each<[string, Reply]>([
    ['is announced as too long', { body: manifest, contentLength: 101 }],
    ['is too long', { body: 'x'.repeat(101), contentLength: null }],
  ])('that %s is not read', async (_, reply) => {
    const { endpoint, destroyed } = endpointWith([reply]);
    await expect(endpoint.getManifest('a', 'v1', { accept, signal })).rejects.toMatchObject({
      reason: 'too-large',
      message: 'upstream x sends a manifest larger than the 100 bytes allowed',
    });
    expect(destroyed).toEqual([0]);
  });

  test('of the longest size is read, and counted in memory', async () => {
    const counted: number[] = [];
    const memory = {
      tryAdd: (bytes: number) => counted.push(bytes) > 0,
      release: (bytes: number) => counted.push(-bytes),
    };
    const { endpoint } = endpointWith([{ body: 'x'.repeat(100) }], { memory });
    expect((await endpoint.getManifest('a', 'v1', { accept, signal })).bytes).toHaveLength(100);
    expect(counted).toEqual([100, -100]);
  });

  test.each([
    ['bytes 0-18/19', true],
    ['bytes 1-18/19', false],
    ['bytes 0-17/19', false],
    ['bytes 0-18/*', true],
    [undefined, true],
  ])('in part (%s) is taken where that is all: %s', async (range, isTaken) => {
    const headers = range === undefined ? {} : { 'content-range': range };
    const { endpoint, destroyed } = endpointWith([{ status: 206, headers, body: manifest }]);
    const got = endpoint.getManifest('a', 'v1', { accept, signal });
    if (isTaken) expect((await got).bytes).toEqual(manifest);
    else await expect(got).rejects.toThrow('upstream x answered with a part although it was asked for all');
    expect(destroyed).toEqual(isTaken ? [] : [0]);
  });
});

describe('the head of a blob', () => {
  test.each<[string, Reply, object]>([
    ['length and type', { contentLength: 5, headers: { 'content-type': 'x/y' } }, { size: 5, contentType: 'x/y' }],
    ['no length', { contentLength: null }, { size: undefined, contentType: 'application/octet-stream' }],
    ['a coding', { contentLength: 5, codings: ['gzip'] }, { size: undefined, contentType: 'application/octet-stream' }],
  ])('is what a HEAD says: %s', async (_, reply, expected) => {
    const { endpoint, asked, profile } = endpointWith([reply]);
    expect(await endpoint.headBlob('a', digest, { signal })).toEqual(expected);
    expect(asked).toMatchObject([
      { repository: 'a', subject: 'blob', path: `blobs/${digest}`, method: 'HEAD', accepted: 'any' },
    ]);
    expect(profile.get('blobHead')).toBe('trusted');
  });

  const coming = { status: 206, headers: { 'content-range': 'bytes 0-0/9', 'content-type': 'x/y' }, body: 'x' };

  test.each<[string, Reply, object, 'read' | 'destroyed']>([
    ['a part', coming, { size: 9, contentType: 'x/y' }, 'read'],
    ['a part without a window', { status: 206, body: 'x' }, { size: undefined }, 'read'],
    ['nothing to give', { status: 416 }, { size: 0, contentType: 'application/octet-stream' }, 'read'],
    ['all of it', { body: 'abc' }, { size: 3 }, 'destroyed'],
  ])('is what a GET of one byte says where a HEAD says no: %s', async (_, reply, expected, end) => {
    const { endpoint, asked, profile, destroyed, read } = endpointWith([{ status: 404 }, reply]);
    expect(await endpoint.headBlob('a', digest, { signal })).toMatchObject(expected);
    expect(asked[1]).toMatchObject({ method: 'GET', headers: { range: 'bytes=0-0' } });
    expect(asked[1]?.accepted).toEqual([206, 416, 400, 501]);
    expect(profile.get('blobHead')).toBe('unreliable');
    expect([destroyed.includes(1), read.includes(1)]).toEqual([end === 'destroyed', end === 'read']);
  });

  test('of length 0 is asked for once more, and proves nothing about heads', async () => {
    const { endpoint, profile, asked } = endpointWith([{ contentLength: 0 }, coming]);
    expect(await endpoint.headBlob('a', digest, { signal })).toMatchObject({ size: 9 });
    expect(profile.get('blobHead')).toBe('trusted');
    expect(asked).toHaveLength(2);
  });

  test('is not asked for where that is known to be of no use', async () => {
    const { endpoint, profile, asked } = endpointWith([coming]);
    profile.learn('blobHead', 'unreliable');
    await endpoint.headBlob('a', digest, { signal });
    expect(asked.map(({ method }) => method)).toEqual(['GET']);
  });
});

describe('a blob', () => {
  test.each<[object, string | undefined, readonly number[]]>([
    [{}, undefined, []],
    [{ offset: 0 }, undefined, []],
    [{ offset: 3 }, 'bytes=3-', [400, 501]],
    [{ offset: 3, end: 5 }, 'bytes=3-4', [416, 400, 501]],
    [{ end: 5 }, 'bytes=0-4', [416, 400, 501]],
  ])('%j is asked for with the range %s', async (part, range, refusals) => {
    const { endpoint, asked } = endpointWith([{ body: 'abc', headers: { 'content-type': 'x/y' } }]);
    const answer = await endpoint.openBlob('a', digest, { ...part, signal });
    // What ignores the range gives all.
    expect(answer).toMatchObject({ size: 3, start: 0, end: 3, contentType: 'x/y' });
    expect((await bytesOf(answer)).toString()).toBe('abc');
    expect(asked[0]).toMatchObject({ method: 'GET', subject: 'blob', path: `blobs/${digest}` });
    expect(asked[0]?.headers).toEqual(range === undefined ? undefined : { range });
    expect(asked[0]?.accepted).toEqual([206, ...refusals]);
  });

  const part = (range: string, more: Reply = {}): Reply => ({
    status: 206,
    headers: { 'content-range': range },
    body: 'xx',
    ...more,
  });

  test.each<[object, Reply, object]>([
    [{ offset: 3 }, part('bytes 3-4/5'), { size: 5, start: 3, end: 5 }],
    [{ offset: 3, end: 9 }, part('bytes 3-4/5'), { size: 5, start: 3, end: 5 }],
    [{ offset: 3, end: 5 }, part('bytes 3-4/*'), { size: undefined, start: 3, end: 5 }],
    [{ offset: 3, end: 5 }, part('bytes 3-4/9', { contentLength: null }), { size: 9, start: 3, end: 5 }],
    [{ offset: 3 }, part('bytes 3-4/*'), { size: undefined, start: 3, end: 5 }],
    [{ offset: 3 }, part('bytes 2-4/5', { body: 'xxx' }), { size: 5, start: 2, end: 5 }],
    [{ offset: 3 }, part('bytes 0-65538/99999', { contentLength: null }), { size: 99_999, start: 0, end: 65_539 }],
  ])('%j comes in part: %j', async (wanted, reply, expected) => {
    const { endpoint } = endpointWith([reply]);
    expect(await endpoint.openBlob('a', digest, { ...wanted, signal })).toMatchObject({
      ...expected,
      contentType: 'application/octet-stream',
    });
  });

  test.each<[object, Reply]>([
    [{ offset: 3 }, part('bytes 2-3/5')],
    [{ offset: 3 }, part('bytes 0-2/5', { body: 'xxx' })],
    [{ offset: 3 }, part('bytes 4-4/5', { body: 'x' })],
    [{ offset: 3 }, part('bytes 3-3/5', { body: 'x' })],
    [{ offset: 3, end: 5 }, part('bytes 3-5/9', { body: 'xxx' })],
    [{ offset: 3, end: 5 }, part('bytes 3-3/*', { body: 'x' })],
    [{ offset: 3 }, part('bytes 3-4/5', { contentLength: 3 })],
    [{ offset: 3 }, part('nonsense')],
    [{ offset: 3 }, { status: 206, body: 'xx' }],
  ])('%j is refused in another part: %j', async (wanted, reply) => {
    const { endpoint, destroyed } = endpointWith([reply]);
    await expect(endpoint.openBlob('a', digest, { ...wanted, signal })).rejects.toMatchObject({
      reason: 'range-ignored',
    });
    expect(destroyed).toEqual([0]);
  });

  test('in part is refused where all was asked for, unless it is all', async () => {
    await expect(endpointWith([part('bytes 0-1/5')]).endpoint.openBlob('a', digest, { signal })).rejects.toThrow(
      'answered with a part although it was asked for all',
    );
    const whole = endpointWith([part('bytes 0-1/2')]);
    expect(await whole.endpoint.openBlob('a', digest, { signal })).toMatchObject({ start: 0, end: 2 });
  });

  test('whose coding cannot be told is refused', async () => {
    const body = Buffer.alloc(300_000, 1);
    const { endpoint } = endpointWith([{ body: gzipSync(body, { level: 0 }), codings: ['gzip'] }]);
    await expect(endpoint.openBlob('a', digest, { signal })).rejects.toMatchObject({
      message: 'upstream x sends an encoded body although it was asked for the plain one',
      detail: { contentEncoding: 'gzip' },
    });
  });
});

describe('a list', () => {
  test('of tags is asked for without what selects the upstream', async () => {
    const headers = { link: '<?last=b&ns=x>; rel="next"', 'content-type': 'x/json' };
    const { endpoint, asked } = endpointWith([{ body: '{"tags":[]}', headers }, { body: '{"tags":null}' }]);
    expect(await endpoint.listTags('a', 'n=1&ns=docker.io', { signal })).toEqual({
      bytes: Buffer.from('{"tags":[]}'),
      contentType: 'x/json',
      nextQuery: 'last=b',
      filtersApplied: undefined,
    });
    expect(await endpoint.listTags('a', '', { signal })).toMatchObject({ contentType: 'application/json' });
    expect(asked.map(({ path }) => path)).toEqual(['tags/list?n=1', 'tags/list']);
    expect(asked[0]).toMatchObject({ method: 'GET', subject: 'repository' });
  });

  const long = ' '.repeat(1024 * 1024);

  test.each<[string, boolean]>([
    ['{"tags":[]}', true],
    ['{"other":[]}', false],
    ['[{"tags":[]}]', false],
    ['<html>"tags"</html>', false],
    [`${' '.repeat(1024 * 1024 - 11)}{"tags":[]}`, true],
    [`{"tags":[]${long}}`, true],
    [` {"other":[]${long}}`, false],
    [`["tags"${long}}`, false],
    [`{"tags":[]${long}`, false],
    [`{"tags":[${long}]} `, true],
    [`{not JSON "tags":${' '.repeat(1024 * 1024 - 18)}}`, false],
    [`{not JSON "tags":${' '.repeat(1024 * 1024 - 17)}}`, true],
  ])('of tags that begins with %.30s is one: %s', async (text, isOne) => {
    const list = endpointWith([{ body: text }]).endpoint.listTags('a', '', { signal });
    if (isOne) expect((await list).bytes).toHaveLength(text.length);
    else
      await expect(list).rejects.toThrow(
        'answered with something that is no list of tags (GET https://reg.example/v2/a/answered)',
      );
  });

  test('of up to 16 MiB is read', async () => {
    const of = (length: number) => ({ body: `{"tags":[${' '.repeat(length - 11)}]}` });
    const bytes = 16 * 1024 * 1024;
    expect((await endpointWith([of(bytes)]).endpoint.listTags('a', '', { signal })).bytes).toHaveLength(bytes);
    await expect(endpointWith([of(bytes + 1)]).endpoint.listTags('a', '', { signal })).rejects.toThrow(
      'sends a list larger than the 16777216 bytes allowed',
    );
  });

  test('of referrers is asked for as an index, with its filters', async () => {
    const headers = { 'oci-filters-applied': 'artifactType' };
    const { endpoint, asked } = endpointWith([{ body: '{"manifests":[]}', headers }]);
    const query = 'artifactType=x&ns=y';
    expect(await endpoint.listReferrers('a', digest, { signal, query })).toMatchObject({
      filtersApplied: 'artifactType',
    });
    expect(asked[0]).toMatchObject({
      method: 'GET',
      subject: 'referrers',
      path: `referrers/${digest}?artifactType=x`,
      headers: { accept: 'application/vnd.oci.image.index.v1+json' },
      accepted: [400, 404, 405, 406, 501],
    });
  });

  test.each<[Reply]>([[{ status: 404, body: '{"manifests":[]}' }], [{ body: '<html>' }], [{ body: '{"tags":[]}' }]])(
    'of referrers is none: %j',
    async (reply) => {
      const { endpoint, read } = endpointWith([reply]);
      expect(await endpoint.listReferrers('a', digest, { signal, query: '' })).toBeUndefined();
      expect(read).toEqual([0]);
    },
  );

  test('with several headers of a kind is read', async () => {
    const headers = { link: ['<?a=1>; rel=prev', '<?a=2>; rel=next'], 'oci-filters-applied': ['x', 'y'] };
    const { endpoint } = endpointWith([{ body: '{"tags":[]}', headers }]);
    expect(await endpoint.listTags('a', '', { signal })).toMatchObject({ nextQuery: 'a=2', filtersApplied: 'x,y' });
  });
});

test.each([
  ['https://h', 'https://h/v2/a'],
  ['https://h/base/', 'https://h/base/v2/a'],
  ['https://h/v2', 'https://h/v2/a'],
  ['https://h/v2/hub', 'https://h/v2/hub/a'],
  ['https://h/v2x', 'https://h/v2x/v2/a'],
  ['https://h/x/v2/y', 'https://h/x/v2/y/v2/a'],
])('what is under the endpoint %s is at %s', (endpoint, url) => {
  expect(resourceUrl(endpoint, 'a').href).toBe(url);
});
