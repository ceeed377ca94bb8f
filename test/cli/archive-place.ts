import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type CommandResult, runCommand } from '../support/commands.ts';
import { type LocalManifest, localBlob, localImage, localIndex } from '../support/images.ts';
import { type LayoutImage, named } from '../support/layouts.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

/** Upstreams that are configured and do not answer. */
export const unreachable = {
  'docker.io': { urls: ['http://127.0.0.1:1'] },
  'quay.io': { urls: ['http://127.0.0.1:1'] },
};

export type Upstreams = Readonly<Record<string, { readonly urls: readonly string[] }>>;

/** A folder with a configuration, and commands that run in it. */
export async function place({ cache = {}, upstreams = unreachable }: { cache?: object; upstreams?: Upstreams } = {}) {
  const folder = await temporaryFolder();
  const cacheDir = join(folder.path, 'data');
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams, cache: { dir: cacheDir, ...cache } }),
  );
  return {
    cacheDir,
    upstreams,
    path: (name: string) => join(folder.path, name),
    run: (...args: readonly string[]): Promise<CommandResult> => runCommand(args, folder.path),
    /** The same, with something on standard input. */
    pipe: (stdin: Uint8Array, ...args: readonly string[]): Promise<CommandResult> =>
      runCommand(args, folder.path, stdin),
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** The mirror that serves what is there, offline. */
export async function served(cacheDir: string): Promise<TestSite> {
  return await startTestSite({ upstreams: unreachable, cacheDir, config: { offline: true } });
}

/** Expects a repository to serve a manifest, by digest and tag, with all that it names. */
export async function expectServed(
  site: TestSite,
  repository: string,
  manifest: LocalManifest,
  tag?: string,
): Promise<void> {
  for (const reference of [manifest.digest, ...(tag === undefined ? [] : [tag])]) {
    const got = await site.get(`/v2/${repository}/manifests/${reference}`);
    expect([got.status, got.headers['content-type']]).toEqual([200, manifest.mediaType]);
    expect(got.body.equals(manifest.bytes)).toBe(true);
  }
  for (const blob of manifest.blobs) {
    const got = await site.get(`/v2/${repository}/blobs/${blob.digest}`);
    expect([got.status, localBlob(got.body).digest]).toEqual([200, blob.digest]);
  }
  for (const child of manifest.manifests) await expectServed(site, repository, child);
}

/** An index, a plain image, and both under the names that archives give them. */
export const index = localIndex('two platforms', ['amd64', 'arm64']);
export const alpine = localImage({ label: 'alpine', mediaTypes: 'docker' });
export const images: LayoutImage[] = [
  { manifest: index, annotations: named('docker.io/library/nginx:1.27') },
  { manifest: alpine, annotations: named('quay.io/org/alpine:3') },
];
