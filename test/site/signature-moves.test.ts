import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { launcher, run } from '../cli/spawn.ts';
import { attachSimple, payloadOf, simpleSignature } from '../support/sigstore.ts';
import { repository, startSigned } from './signed-mirror.ts';

type Mirror = Awaited<ReturnType<typeof startSigned>>;

/** Runs a command beside the mirror. */
async function command(mirror: Mirror, ...args: readonly string[]) {
  const { cacheDir } = mirror.site;
  return await run(launcher, args, { cwd: cacheDir, environment: { MILLPOND_CACHE_DIR: cacheDir } });
}

function addSigned({ registry, key }: Mirror, tag: string): string {
  const { digest } = registry.addImage(repository, tag, { layers: [`layer of ${tag}`] });
  attachSimple(registry, { repository, digest, place: 'tag', signatures: [simpleSignature(payloadOf(digest), key)] });
  return digest;
}

test('an image without a valid signature is not fetched, and nothing of its layers is', async () => {
  await using mirror = await startSigned();
  const { registry } = mirror;
  addSigned(mirror, 'signed');
  const unsigned = registry.addImage(repository, 'unsigned', { layers: ['unsigned'] });
  const images = ['signed', 'unsigned'].map((tag) => `reg.example/${repository}:${tag}`);
  const { code, stdout, stderr } = await command(mirror, 'fetch', ...images);
  expect(code).toBe(1);
  expect(stderr).toContain('carries no signature');
  expect(stdout).toContain('1 of 2 images here');
  expect(registry.requestsFor(/\/blobs\//).map(({ digest }) => digest)).not.toContain(unsigned.layers[0]?.digest);
});

test('an image that only a warning stands against is fetched with it', async () => {
  await using mirror = await startSigned({ mode: 'warn' });
  mirror.registry.addImage(repository, 'v1');
  const { code, stdout } = await command(mirror, 'fetch', `reg.example/${repository}:v1`);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^warning: .*carries no signature/m);
});

test('an image is exported only with a valid signature that is stored', async () => {
  await using mirror = await startSigned();
  const { registry, site } = mirror;
  const digest = addSigned(mirror, 'v1');
  const image = `reg.example/${repository}:v1`;
  const archive = join(site.cacheDir, '..', 'v1.tar');
  expect((await command(mirror, 'fetch', image)).code).toBe(0);
  registry.forgetRequests();
  const exported = await command(mirror, 'export', '--output', archive, image);
  expect({ code: exported.code, stderr: exported.stderr }).toEqual({ code: 0, stderr: '' });
  expect(registry.requests).toEqual([]);
  await rm(archive);
  expect((await command(mirror, 'rm', `reg.example/${repository}:${digest.replace(':', '-')}.sig`)).code).toBe(0);
  const refused = await command(mirror, 'export', '--output', archive, image);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('carries no signature');
  await expect(readFile(archive)).rejects.toThrow('ENOENT');
});

test('where the policy warns, an image is exported with the warning', async () => {
  await using mirror = await startSigned({ mode: 'warn' });
  mirror.registry.addImage(repository, 'v1');
  const image = `reg.example/${repository}:v1`;
  expect((await command(mirror, 'fetch', image)).code).toBe(0);
  const archive = join(mirror.site.cacheDir, '..', 'warned.tar');
  const { code, stderr } = await command(mirror, 'export', '--output', archive, image);
  expect(code).toBe(0);
  expect(stderr).toMatch(/^millpond: warning: .*carries no signature/m);
});

test('a command that works alone holds to the policies, too, and needs their files only where they count', async () => {
  await using mirror = await startSigned();
  const { registry, site, keyFile } = mirror;
  registry.addImage(repository, 'unsigned');
  await site.stop();
  const configFile = join(site.cacheDir, '..', 'millpond.yaml');
  const alone = (...args: readonly string[]) =>
    run(launcher, [...args, '--config', configFile], { cwd: site.cacheDir, environment: {} });
  const refused = await alone('fetch', `reg.example/${repository}:unsigned`);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('carries no signature');
  await rm(keyFile);
  expect((await alone('ls')).code).toBe(0);
  expect((await alone('fetch', `reg.example/${repository}:unsigned`)).stderr).toContain('cosign.pub cannot be read');
});
