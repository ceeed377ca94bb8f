import { describe, expect, test } from 'vitest';
import type { Digest } from '../../src/oci/digest.ts';
import { ociIndex, ociManifest } from '../../src/oci/media-types.ts';
import {
  chooseEntries,
  formatPlatform,
  type IndexEntry,
  indexEntries,
  isPlatform,
  type Platform,
  parsePlatform,
} from '../../src/oci/platform.ts';

const platform = (text: string): Platform => parsePlatform(text) as Platform;

describe('platforms', () => {
  test.each([
    ['linux/amd64', 'linux/amd64', true],
    ['linux/amd64', 'linux/x86_64', true],
    ['linux/arm64/v8', 'linux/arm64', true],
    ['linux/arm64', 'linux/arm64/v8', true],
    ['linux/arm64/v9', 'linux/arm64/v8', false],
    ['linux/arm/v6', 'linux/arm', true],
    ['linux/arm/v6', 'linux/arm/v7', false],
    ['linux/arm', 'linux/arm/v7', true],
    ['windows/amd64', 'linux/amd64', false],
  ])('%s where %s is wanted: %s', (found, wanted, expected) => {
    expect(isPlatform(platform(found), platform(wanted))).toBe(expected);
  });

  test('of an index are several where one image is listed for each of them', () => {
    const image = { digest: `sha256:${'1'.repeat(64)}`, size: 1, mediaType: ociManifest };
    const manifests = ['v6', 'v7'].map((variant) => ({
      ...image,
      platform: { os: 'linux', architecture: 'arm', variant },
    }));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
    expect(indexEntries(bytes, ociIndex).map((one) => formatPlatform(one.platform!))).toEqual([
      'linux/arm/v6',
      'linux/arm/v7',
    ]);
  });

  test('of an index are chosen with what is about them; of an index in an index there may be none', () => {
    const digest = (letter: string) => `sha256:${letter.repeat(64)}` as Digest;
    const entry = (letter: string, text: string | undefined, attests?: Digest): IndexEntry => {
      const [os = '', architecture = ''] = text?.split('/') ?? [];
      const found = text === undefined ? undefined : { os, architecture, variant: undefined };
      return { digest: digest(letter), size: 1, mediaType: 'm', platform: found, attests };
    };
    const entries = [
      entry('a', 'linux/amd64'),
      entry('b', 'linux/arm64'),
      entry('c', 'unknown/unknown', digest('a')),
      entry('d', 'unknown/unknown', digest('b')),
      entry('e', undefined),
    ];
    const chosen = (wanted: string[], attestations = true, of = entries) => {
      const found = chooseEntries(of, { platforms: wanted.map(platform), attestations });
      return [found.entries.map((one) => one.digest[7]).join(''), found.lacks.map(formatPlatform)];
    };
    expect(chosen([])).toEqual(['abcde', []]);
    expect(chosen(['linux/arm64'])).toEqual(['bde', []]);
    expect(chosen(['linux/arm64', 'linux/s390x'], false)).toEqual(['be', ['linux/s390x']]);
    expect(chosen(['linux/s390x'])).toEqual(['e', ['linux/s390x']]);
    expect(chosen(['linux/s390x'], true, [entry('e', undefined)])).toEqual(['e', []]);
  });

  test('are written as they are read, and nothing else is one', () => {
    expect(formatPlatform(platform('linux/arm/v7'))).toBe('linux/arm/v7');
    for (const text of ['', 'linux', 'linux/', 'linux/amd64/', 'linux amd64', 'a/b/c/d']) {
      expect(parsePlatform(text)).toBeUndefined();
    }
  });

  test('of an index are read with what its attestations are about', () => {
    const image = `sha256:${'1'.repeat(64)}`;
    const attestation = `sha256:${'2'.repeat(64)}`;
    const annotations = { 'vnd.docker.reference.type': 'attestation-manifest', 'vnd.docker.reference.digest': image };
    const manifests = [
      { digest: image, size: 1, mediaType: ociManifest, platform: { os: 'linux', architecture: 'arm', variant: 'v7' } },
      { digest: attestation, size: 2, mediaType: ociManifest, annotations, platform: null },
      'nonsense',
    ];
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
    expect(indexEntries(bytes, ociIndex)).toEqual([
      {
        digest: image,
        size: 1,
        mediaType: ociManifest,
        platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
        attests: undefined,
      },
      { digest: attestation, size: 2, mediaType: ociManifest, platform: undefined, attests: image },
    ]);
  });
});
