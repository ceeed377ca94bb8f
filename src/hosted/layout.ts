import { join } from 'node:path';
import type { Digest } from '../oci/digest.ts';

/**
 * Where hosted content lies. A part of a repository name never begins with `_`, so the folders that do belong to the
 * repository above them.
 */
export interface HostedLayout {
  readonly root: string;
  /** The bytes, by digest, of all repositories together. */
  blob(digest: Digest): string;
  /** A file that was found damaged. */
  damaged(digest: Digest): string;
  readonly repositories: string;
  /** One file a tag: what it stands for. */
  tags(repository: string): string;
  tag(repository: string, tag: string): string;
  /** One file for each manifest of the repository, by algorithm. */
  manifests(repository: string): string;
  manifest(repository: string, digest: Digest): string;
  /** One file for each blob of the repository, by algorithm. */
  blobs(repository: string): string;
  blobLink(repository: string, digest: Digest): string;
  /** One file for each manifest that names a subject. */
  referrers(repository: string, subject: Digest): string;
  referrer(repository: string, subject: Digest, manifest: Digest): string;
  /** Upload sessions, a folder each. */
  readonly uploads: string;
  upload(id: string): string;
}

/** The paths below the folder of hosted content; touches no file. */
export function hostedLayout(root: string): HostedLayout {
  const repositories = join(root, 'repositories');
  const inRepository = (repository: string, ...parts: readonly string[]): string =>
    join(repositories, ...repository.split('/'), ...parts);
  return {
    root,
    damaged: (digest) => join(root, 'damaged', pathOf(digest).join('-')),
    repositories,
    blob: (digest) => join(root, 'blobs', ...pathOf(digest)),
    tags: (repository) => inRepository(repository, '_tags'),
    tag: (repository, tag) => inRepository(repository, '_tags', tag),
    manifests: (repository) => inRepository(repository, '_manifests'),
    manifest: (repository, digest) => inRepository(repository, '_manifests', ...pathOf(digest)),
    blobs: (repository) => inRepository(repository, '_blobs'),
    blobLink: (repository, digest) => inRepository(repository, '_blobs', ...pathOf(digest)),
    referrers: (repository, subject) => inRepository(repository, '_referrers', ...pathOf(subject)),
    referrer: (repository, subject, manifest) =>
      inRepository(repository, '_referrers', ...pathOf(subject), pathOf(manifest).join('-')),
    uploads: join(root, 'uploads'),
    upload: (id) => join(root, 'uploads', id),
  };
}

function pathOf(digest: Digest): readonly [algorithm: string, hex: string] {
  const colon = digest.indexOf(':');
  return [digest.slice(0, colon), digest.slice(colon + 1)];
}
