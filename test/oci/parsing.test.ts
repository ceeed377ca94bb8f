import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { digestAlgorithm, digestHex, digestOf, isDigest, parseDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { contentRange, readContentRange, readRanges } from '../../src/oci/range.ts';
import { isRepository, isTag, parseReference } from '../../src/oci/reference.ts';
import { parseRequest } from '../../src/oci/request.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const sha256 = `sha256:${'0123456789abcdef'.repeat(4)}`;
const sha512 = `sha512:${'0123456789abcdef'.repeat(8)}`;

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof RegistryError) return error.code;
    throw error;
  }
  return 'none';
}

describe('a digest', () => {
  test.each([sha256, sha512])('of a registered algorithm is taken: %s', (text) => {
    const digest = parseDigest(text);
    expect(`${digestAlgorithm(digest)}:${digestHex(digest)}`).toBe(text);
  });

  test.each([
    '',
    'sha256:',
    sha256.toUpperCase(),
    sha256.slice(0, -1),
    `${sha256}0`,
    `${sha256}\n`,
    ` ${sha256}`,
    sha256.replace('sha256', 'sha512'),
    sha512.replace('sha512', 'sha256'),
    `sha384:${'0'.repeat(96)}`,
    `md5:${'0'.repeat(32)}`,
    `sha256+b64:${'0'.repeat(64)}`,
    'sha256:../../../../etc/passwd',
  ])('that is none is DIGEST_INVALID: %j', (text) => {
    expect(isDigest(text)).toBe(false);
    expect(codeOf(() => parseDigest(text))).toBe('DIGEST_INVALID');
  });

  test('of any bytes is one', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.constantFrom('sha256' as const, 'sha512' as const), (bytes, algorithm) => {
        expect(isDigest(digestOf(bytes, algorithm))).toBe(true);
      }),
    );
  });
});

describe('a range', () => {
  test.each([
    [undefined, 10, []],
    ['bytes=0-', 10, [{ start: 0, end: 10 }]],
    ['bytes=9-9', 10, [{ start: 9, end: 10 }]],
    ['bytes=2-5', 10, [{ start: 2, end: 6 }]],
    ['bytes=-3', 10, [{ start: 7, end: 10 }]],
    ['bytes=-10', 10, [{ start: 0, end: 10 }]],
    ['bytes=-99', 10, [{ start: 0, end: 10 }]],
    ['bytes=5-99', 10, [{ start: 5, end: 10 }]],
    ['bytes=4294967296-', 2 ** 33, [{ start: 2 ** 32, end: 2 ** 33 }]],
    [
      'bytes=0-1,4-5',
      10,
      [
        { start: 0, end: 2 },
        { start: 4, end: 6 },
      ],
    ],
    [
      'bytes=8-9, 0-1',
      10,
      [
        { start: 8, end: 10 },
        { start: 0, end: 2 },
      ],
    ],
    ['bytes=0-3,2-5,6-7', 10, [{ start: 0, end: 8 }]],
    ['bytes=0-1,20-30', 10, [{ start: 0, end: 2 }]],
    ['bytes=4-4,-99', 10, [{ start: 0, end: 10 }]],
    [`bytes=${Array.from({ length: 65 }, (_, index) => `${2 * index}-${2 * index}`).join(',')}`, 200, []],
    ['items=0-1', 10, []],
    ['bytes', 10, []],
    ['', 10, []],
  ])('%j of %i bytes', (header, size, expected) => {
    expect(readRanges(header, size)).toEqual(expected);
  });

  test.each([
    ['bytes=10-', 10],
    ['bytes=10-20', 10],
    ['bytes=-0', 10],
    ['bytes=0-', 0],
    ['bytes=-5', 0],
  ])('%j of %i bytes cannot be met, and the answer says the size', (header, size) => {
    try {
      readRanges(header, size);
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'RANGE_INVALID', status: 416 });
      expect((error as RegistryError).headers).toEqual({ 'Content-Range': `bytes */${size}` });
    }
  });

  test('never leaves the blob, whatever is sent', () => {
    const header = fc.oneof(
      fc.string(),
      fc.tuple(fc.nat(), fc.nat()).map(([first, last]) => `bytes=${first}-${last}`),
      fc.nat().map((count) => `bytes=-${count}`),
      fc.nat().map((first) => `bytes=${first}-`),
    );
    fc.assert(
      fc.property(header, fc.nat(), (text, size) => {
        let ranges: readonly { start: number; end: number }[] = [];
        if (codeOf(() => (ranges = readRanges(text, size))) === 'RANGE_INVALID') return;
        for (const range of ranges) {
          expect(range.start).toBeGreaterThanOrEqual(0);
          expect(range.end).toBeGreaterThan(range.start);
          expect(range.end).toBeLessThanOrEqual(size);
        }
      }),
    );
  });

  test('is written as it is read', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1 }), fc.option(fc.nat(), { nil: undefined }), (start, length, size) => {
        const range = { start, end: start + length };
        expect(readContentRange(contentRange(range, size))).toEqual({ range, size });
      }),
    );
  });

  test.each([undefined, '', 'bytes */10', 'bytes 5-4/10', 'items 0-1/2', 'bytes 0-1', `bytes 0-1/${'9'.repeat(16)}`])(
    'in Content-Range that cannot be read is none: %j',
    (header) => expect(readContentRange(header)).toBeUndefined(),
  );
});

describe('a path', () => {
  test.each([
    ['/v2/', { kind: 'ping' }],
    ['/v2', { kind: 'ping' }],
    ['/v2/app/tags/list', { kind: 'tags', name: 'app' }],
    ['/v2/a/b/c/d/e/manifests/v1.0', { kind: 'manifest', name: 'a/b/c/d/e', reference: { kind: 'tag', tag: 'v1.0' } }],
    [`/v2/app/manifests/${sha512}`, { kind: 'manifest', name: 'app', reference: { kind: 'digest', digest: sha512 } }],
    [`/v2/app/blobs/${sha256.replace(':', '%3A')}`, { kind: 'blob', name: 'app', digest: sha256 }],
    [`/v2/blobs/tags/blobs/${sha256}`, { kind: 'blob', name: 'blobs/tags', digest: sha256 }],
    ['/v2/tags/list/tags/list', { kind: 'tags', name: 'tags/list' }],
    [`/v2/app/referrers/${sha256}`, { kind: 'referrers', name: 'app', digest: sha256 }],
    ['/v2/reg.example:5000/app/tags/list', { kind: 'tags', name: 'reg.example:5000/app' }],
    ['/v2/Reg.Example/app/tags/list', { kind: 'tags', name: 'Reg.Example/app' }],
  ])('%s', (path, request) => {
    expect(parseRequest(path)).toEqual(request);
  });

  test.each([
    ['/v2/app/manifests/', 'NAME_UNKNOWN'],
    ['/v2//tags/list', 'NAME_UNKNOWN'],
    ['/v2/app/uploads/list', 'NAME_UNKNOWN'],
    ['/v2/app/tags/list/', 'NAME_UNKNOWN'],
    ['/v2/app//b/tags/list', 'NAME_INVALID'],
    ['/v2/app/B/tags/list', 'NAME_INVALID'],
    ['/v2/a%2fb/tags/list', 'NAME_INVALID'],
    ['/v2/../../etc/tags/list', 'NAME_INVALID'],
    ['/v2/app/manifests/.hidden', 'MANIFEST_INVALID'],
    [`/v2/app/manifests/${'t'.repeat(129)}`, 'MANIFEST_INVALID'],
    ['/v2/app/manifests/sha256:xyz', 'DIGEST_INVALID'],
    ['/v2/app/blobs/latest', 'DIGEST_INVALID'],
    [`/v2/${'a'.repeat(256)}/tags/list`, 'NAME_INVALID'],
  ])('%s is %s', (path, code) => {
    expect(codeOf(() => parseRequest(path))).toBe(code);
  });

  test('is a request or an error of the registry, whatever is sent, and its name climbs nowhere', () => {
    const part = fc.oneof(fc.string(), fc.constantFrom('..', '.', 'manifests', 'blobs', 'tags', 'list', sha256, 'app'));
    fc.assert(
      fc.property(fc.array(part, { maxLength: 7 }), (parts) => {
        const path = `/v2/${parts.join('/')}`;
        if (codeOf(() => parseRequest(path)) !== 'none') return;
        const request = parseRequest(path);
        if (request.kind !== 'ping') expect(request.name.split('/')).not.toContain('..');
      }),
    );
  });
});

describe('a reference', () => {
  test.each([
    ['nginx', { registry: undefined, repository: 'nginx', tag: undefined, digest: undefined }],
    ['quay.io/a/b:1', { registry: 'quay.io', repository: 'a/b', tag: '1', digest: undefined }],
    ['localhost/a', { registry: 'localhost', repository: 'a', tag: undefined, digest: undefined }],
    ['REG.example:5000/a/b', { registry: 'reg.example:5000', repository: 'a/b', tag: undefined, digest: undefined }],
    [`a/b:1@${sha256}`, { registry: undefined, repository: 'a/b', tag: '1', digest: sha256 }],
  ])('%s', (text, reference) => {
    expect(parseReference(text)).toEqual(reference);
  });

  test.each([
    ['', 'NAME_INVALID'],
    ['A', 'NAME_INVALID'],
    ['a@b@c', 'NAME_INVALID'],
    ['a:', 'MANIFEST_INVALID'],
    ['a:-x', 'MANIFEST_INVALID'],
    ['a@sha256:1', 'MANIFEST_INVALID'],
    ['quay.io/', 'NAME_INVALID'],
  ])('%j is %s', (text, code) => {
    expect(codeOf(() => parseReference(text))).toBe(code);
  });

  test('of a repository and a tag is read back from what is written', () => {
    const repository = fc.stringMatching(/^[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,8}){0,2}(?:\/[a-z0-9]{1,8}){0,3}$/);
    const tag = fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}$/);
    fc.assert(
      fc.property(repository, tag, (name, version) => {
        expect([isRepository(name), isTag(version)]).toEqual([true, true]);
        const read = parseReference(`reg.example:5000/${name}:${version}`);
        expect(read).toMatchObject({ registry: 'reg.example:5000', repository: name, tag: version });
      }),
    );
  });
});
