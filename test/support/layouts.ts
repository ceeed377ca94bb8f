import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LocalBlob, LocalManifest } from './images.ts';
import { tarArchive } from './images.ts';

/** Files by name. */
export type LayoutFiles = Record<string, Buffer>;

/** One entry of an `index.json`. */
export interface LayoutImage {
  readonly manifest: LocalManifest;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** The annotations that containerd, Docker and we write for a name. */
export function named(name: string): Record<string, string> {
  return { 'io.containerd.image.name': name, 'org.opencontainers.image.ref.name': name };
}

/** The files of an OCI image layout with these images and all that they name. */
export function layoutOf(images: readonly LayoutImage[]): LayoutFiles {
  const manifests = images.map(({ manifest: { mediaType, digest, size }, annotations }) => ({
    mediaType,
    digest,
    size,
    annotations,
  }));
  const files: LayoutFiles = {
    'oci-layout': Buffer.from('{"imageLayoutVersion":"1.0.0"}'),
    'index.json': Buffer.from(JSON.stringify({ schemaVersion: 2, manifests })),
  };
  for (const { manifest } of images) addContent(files, manifest);
  return files;
}

function addContent(files: LayoutFiles, manifest: LocalManifest): void {
  for (const blob of [manifest, ...manifest.blobs]) files[fileOf(blob)] = blob.bytes;
  for (const child of manifest.manifests) addContent(files, child);
}

/** Where a blob is in a layout. */
export function fileOf({ digest }: Pick<LocalBlob, 'digest'>): string {
  return `blobs/${digest.replace(':', '/')}`;
}

/** Writes files as a tar archive. @returns its path */
export async function writeTar(path: string, files: LayoutFiles): Promise<string> {
  await writeFile(path, tarArchive(files));
  return path;
}

/** Writes files into a folder. @returns its path */
export async function writeFolder(path: string, files: LayoutFiles): Promise<string> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(path, name)), { recursive: true });
    await writeFile(join(path, name), content);
  }
  return path;
}
