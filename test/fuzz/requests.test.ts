import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AcceptReader } from '../../src/oci/accept.ts';
import { digestAlgorithm, isDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { manifestMediaTypes } from '../../src/oci/media-types.ts';
import { readContentRange, readRanges } from '../../src/oci/range.ts';
import { isRepository, isTag, parseReference } from '../../src/oci/reference.ts';
import { parseRequest } from '../../src/oci/request.ts';
import { parseReferenceName } from '../../src/upstream/reference-name.ts';
import { fuzz, textOf } from '../support/fuzz.ts';

const sha256 = `sha256:${'0123456789abcdef'.repeat(4)}`;

/** What a parser gives; `undefined` where it refuses in the words of the registry. Anything else it throws fails. */
function readOrRefused<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    expect(error.status).toBeGreaterThanOrEqual(400);
    expect(error.status).toBeLessThan(500);
    return undefined;
  }
}

describe('what a client sends', () => {
  const path = textOf(
    '/v2/',
    'app',
    '/',
    '..',
    '%2f',
    '%3a',
    'manifests/',
    'blobs/',
    'tags/list',
    sha256,
    ':5000',
    '[',
    '::1]',
    'A',
  );

  test('as a path is a request of the pull API, or is refused', async () => {
    await fuzz(
      [
        fc.oneof(
          path,
          path.map((text) => `/v2/${text}`),
        ),
      ],
      (text) => {
        const request = readOrRefused(() => parseRequest(text));
        if (request === undefined || request.kind === 'ping') return;
        expect(request.name).not.toMatch(/(?:^|\/)\.\.?(?:\/|$)|[\s\\?#]/);
        if (request.kind === 'manifest') {
          const { reference } = request;
          expect(reference.kind === 'tag' ? isTag(reference.tag) : isDigest(reference.digest)).toBe(true);
        }
        if (request.kind === 'blob' || request.kind === 'referrers')
          expect(digestAlgorithm(request.digest)).toMatch(/^sha/);
      },
      { runs: 2000 },
    );
  });

  test('as a reference is an image, or is refused', async () => {
    await fuzz(
      [textOf('docker.io/', 'app', ':', '@', sha256, '/', 'latest', '..', '%2F', 'LOCALHOST', '[::1]:5000')],
      (text) => {
        const reference = readOrRefused(() => parseReference(text));
        if (reference) expect(isRepository(reference.repository)).toBe(true);
        const named = readOrRefused(() => parseReferenceName(text, (name) => name === 'docker.io'));
        if (named?.repository !== undefined) expect(isRepository(named.repository)).toBe(true);
      },
      { runs: 1000 },
    );
  });

  test('as Range is a few parts of the blob, or the whole, or is refused', async () => {
    const header = textOf('bytes', '=', '-', '0', '99', '18446744073709551616', ',', ' ', 'items', '1e9', '-1');
    await fuzz(
      [
        fc.oneof(
          header,
          header.map((text) => `bytes=${text}`),
        ),
        fc.nat(),
      ],
      (text, size) => {
        const ranges = readOrRefused(() => readRanges(text, size)) ?? [];
        expect(ranges.length).toBeLessThanOrEqual(64);
        for (const { start, end } of ranges) {
          expect(Number.isSafeInteger(start) && start >= 0 && start < end && end <= size).toBe(true);
        }
      },
      { runs: 2000 },
    );
  });

  test('as Accept takes a type or does not', async () => {
    const accepts = new AcceptReader();
    const header = textOf('*/*', 'application/*', ';q=0', ';q=0.000', ';q=1', ',', ' ', ...manifestMediaTypes);
    await fuzz(
      [header],
      (text) => {
        for (const type of manifestMediaTypes) expect(accepts.takes(type, text)).toBeTypeOf('boolean');
        for (const type of accepts.variant(text)) expect(accepts.takes(type, text)).toBe(true);
      },
      { runs: 1000 },
    );
  });
});

test('what an upstream or another replica sends as Content-Range is a part that is not empty, or nothing', async () => {
  const header = textOf('bytes ', '-', '/', '*', '0', '99', '999999999999999', '9999999999999999999', ' ');
  await fuzz(
    [
      fc.oneof(
        header,
        header.map((text) => `bytes ${text}`),
      ),
    ],
    (text) => {
      const found = readContentRange(text);
      if (found === undefined) return;
      const { range, size } = found;
      expect([range.start, range.end, size ?? 0].every(Number.isSafeInteger)).toBe(true);
      expect(range.end).toBeGreaterThan(range.start);
    },
    { runs: 2000 },
  );
});
