import { describe, expect, test } from 'vitest';
import { ociIndex } from '../../src/oci/media-types.ts';
import { formatPlatform, indexEntries, isPlatform, type Platform, parsePlatform } from '../../src/oci/platform.ts';

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
      { digest: image, size: 1, mediaType: 'm', platform: { os: 'linux', architecture: 'arm', variant: 'v7' } },
      { digest: attestation, size: 2, mediaType: 'm', annotations, platform: null },
      'nonsense',
    ];
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
    expect(indexEntries(bytes, ociIndex)).toEqual([
      {
        digest: image,
        size: 1,
        mediaType: 'm',
        platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
        attests: undefined,
      },
      { digest: attestation, size: 2, mediaType: 'm', platform: undefined, attests: image },
    ]);
  });
});
