import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { settled } from '../mirror/support.ts';
import { runCommand } from '../support/commands.ts';
import type { AddedImage } from '../support/contents.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';

/** A mirror with a folder in which commands find it, whether it runs or not. */
export async function place(config: object = {}) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const upstream = owned.use(await startRegistry());
  const cacheDir = join(folder.path, 'data');
  const upstreams = { 'docker.io': { urls: [upstream.origin] }, 'ghcr.io': { urls: [upstream.origin] } };
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams, cache: { dir: cacheDir }, ...config }),
  );
  const rest = owned.move();
  return {
    upstream,
    cacheDir,
    run: (...args: readonly string[]) => runCommand(args, folder.path),
    serve: (options: { offline?: boolean } = {}) =>
      startTestSite({ upstreams, cacheDir, config: { offline: options.offline ?? false } }),
    [Symbol.asyncDispose]: () => rest.disposeAsync(),
  };
}

export async function pull(site: TestSite, name: string, image: AddedImage, reference?: string): Promise<void> {
  const base = `/v2/${name}`;
  expect((await site.get(`${base}/manifests/${reference ?? image.digest}`)).status).toBe(200);
  for (const { digest } of [image.config, ...image.layers]) {
    expect((await site.get(`${base}/blobs/${digest}`)).sha256).toBe(digest);
  }
}

/** Two images that share a base, one of them signed in both ways, and a third elsewhere. */
export async function fill(site: TestSite, upstream: ScriptedRegistry) {
  const base = upstream.addBlob({ size: 200_000, seed: 'base' });
  const config = (seed: string) => ({ size: 1_000, seed: `config ${seed}` });
  const one = upstream.addImage('library/app', 'v1', {
    layers: [base, { size: 50_000, seed: 'one' }],
    config: config('one'),
  });
  const two = upstream.addImage('library/app', 'v2', {
    layers: [base, { size: 70_000, seed: 'two' }],
    config: config('two'),
  });
  const elsewhere = upstream.addImage('org/tool', 'latest', {
    layers: [{ size: 10_000, seed: 'tool' }],
    config: config('tool'),
  });
  const cosignTag = `sha256-${one.digest.slice(7)}.sig`;
  const cosign = upstream.addImage('library/app', cosignTag, { layers: [{ size: 300, seed: 'cosign' }] });
  const sbom = upstream.addImage('library/app', undefined, {
    layers: [{ size: 400, seed: 'sbom' }],
    subject: one,
    artifactType: 'application/spdx+json',
  });
  await pull(site, 'app', one, 'v1');
  await pull(site, 'app', two, 'v2');
  await pull(site, 'app', cosign, cosignTag);
  await pull(site, 'app', sbom);
  await pull(site, 'ghcr.io/org/tool', elsewhere, 'latest');
  await settled(site);
  return { one, two, cosign, sbom, base };
}

/** The JSON objects of a text, one a line. */
export const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
