import { expect, test } from 'vitest';
import { get } from './client.ts';
import { startContainerd } from './containerd.ts';
import { startCountingProxy } from './counting-proxy.ts';
import { startDockerRegistry } from './docker-registry.ts';
import { localImage, pushImage } from './images.ts';
import { startProcess } from './processes.ts';
import { describeWith } from './tools.ts';

test('a program that ends before it is ready is reported with what it said', async () => {
  const start = startProcess('/bin/sh', { args: ['-c', 'echo sorry; exit 3'], ready: /never/ });
  await expect(start).rejects.toThrow(/ended \(3\)[^]*sorry/);
});

test('a program that ignores the request to end is ended', async () => {
  const { process } = await startProcess('/bin/sh', {
    args: ['-c', 'trap "echo asked" TERM; echo ready; while :; do sleep 0.1; done'],
    ready: /ready/,
  });
  process.kill('SIGTERM');
  await process.untilOutput(/asked/);
  process.kill('SIGKILL');
  expect(await process.exited()).toBe('SIGKILL');
});

describeWith(['docker-registry'], 'docker-registry', () => {
  test('answers on a port of its own, and what it is asked is counted', async () => {
    await using registry = await startDockerRegistry();
    await using proxy = await startCountingProxy(registry.origin);
    expect((await get(`${proxy.origin}/v2/`)).status).toBe(200);
    expect((await get(`${proxy.origin}/v2/a/blobs/sha256:${'0'.repeat(64)}`)).status).toBe(404);
    expect(proxy.requests.map(({ status }) => status)).toEqual([200, 404]);
    expect(proxy.contentRequests()).toHaveLength(1);
  });

  test('caches another registry in its proxy mode', async () => {
    await using upstream = await startDockerRegistry();
    const image = localImage({ label: 'cached' });
    await pushImage(upstream.origin, 'app', 'v1', image);
    await using cache = await startDockerRegistry({ proxyFor: upstream.origin });
    const headers = { accept: image.mediaType };
    expect(await get(`${cache.origin}/v2/app/manifests/v1`, { headers })).toMatchObject({ sha256: image.digest });
  });

  test('asks for credentials where it has a list of users', async () => {
    await using registry = await startDockerRegistry({ htpasswd: 'u:$2y$05$invalid\n' });
    expect((await get(`${registry.origin}/v2/`)).status).toBe(401);
  });
});

for (const release of ['system', '2'] as const) {
  const suffix = release === '2' ? '-2' : '';
  describeWith(['root', `containerd${suffix}`, `ctr${suffix}`], `containerd (${release})`, () => {
    test('starts beside the one of the system', async () => {
      await using containerd = await startContainerd({ release });
      expect(await containerd.ctr('version')).toMatch(/Server:/);
      expect(await containerd.ctr('plugins', 'ls')).toMatch(/snapshotter\S*\s+native\s.*\sok/);
    });
  });
}
