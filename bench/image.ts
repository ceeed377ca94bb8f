import { createHash } from 'node:crypto';

export const ociManifestType = 'application/vnd.oci.image.manifest.v1+json';

/** What clients send for manifests. */
export const acceptManifests = [
  ociManifestType,
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
].join(', ');

export interface ImageManifest {
  readonly bytes: Buffer;
  readonly size: number;
  readonly digest: string;
}

/**
 * The manifest of an image of eight layers: about two kilobytes, as those of real images.
 * @param more bytes of annotations
 */
export function imageManifest(more = 0): ImageManifest {
  const layers = Array.from({ length: 8 }, (_, index) => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: digestOf(`layer ${index}`),
    size: 1_000_000 * (index + 1),
  }));
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf('config'), size: 7_000 };
  const annotations = more === 0 ? undefined : { 'org.example.filler': 'x'.repeat(more) };
  const manifest = { schemaVersion: 2, mediaType: ociManifestType, config, layers, annotations };
  const bytes = Buffer.from(JSON.stringify(manifest, undefined, 3));
  return { bytes, size: bytes.length, digest: digestOf(bytes) };
}

function digestOf(bytes: string | Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
