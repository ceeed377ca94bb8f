import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { describeWith } from '../support/tools.ts';
import { repository, type Site, type SiteUpstream, startSite, tag } from './site.ts';

for (const release of ['system', '2'] as const) {
  const suffix = release === '2' ? '-2' : '';
  const programs = ['root', 'docker-registry', `containerd${suffix}`, `ctr${suffix}`];
  describeWith(programs, `containerd (${release}) with hosts.toml`, () => {
    let site: Site;
    let containerd: Containerd;
    let perRegistry: string;
    let catchAll: string;
    let withPrefix: string;
    beforeAll(async () => {
      site = await startSite();
      containerd = await startContainerd({ release });
      const mirror = `[host."${site.front.origin}"]\n  capabilities = ["pull", "resolve"]\n`;
      // The server is a port without a listener: what the mirror does not give is not to be had.
      const toml = (host: string): string => `server = "http://127.0.0.1:1"\n\n${host}`;
      const prefixed = (name: string): string =>
        `[host."${site.front.origin}/v2/${name}"]\n  capabilities = ["pull", "resolve"]\n  override_path = true\n`;
      perRegistry = await containerd.hostsDirectory('per-registry', {
        'docker.io': toml(mirror),
        'quay.io': toml(mirror),
      });
      catchAll = await containerd.hostsDirectory('catch-all', { _default: toml(mirror) });
      withPrefix = await containerd.hostsDirectory('with-prefix', {
        'docker.io': toml(prefixed('docker.io')),
        'quay.io': toml(prefixed('quay.io')),
      });
    });
    afterAll(async () => {
      await containerd?.[Symbol.asyncDispose]();
      await site?.[Symbol.asyncDispose]();
    });
    showOutputOnFailure(() => [site, containerd?.process]);

    /** Pulls as if for the first time, and gives the digest that containerd has under the name. */
    async function pull({ name }: SiteUpstream, hostsDirectory: string): Promise<string | undefined> {
      const reference = `${name}/${repository}:${tag}`;
      await containerd.ctr('images', 'pull', '--hosts-dir', hostsDirectory, '--snapshotter', 'native', reference);
      const listed = await containerd.ctr('images', 'ls', `name==${reference}`);
      await containerd.ctr('images', 'rm', '--sync', reference);
      return /sha256:[0-9a-f]{64}/.exec(listed)?.[0];
    }

    test.each([
      { folder: 'per registry', hostsDirectory: () => perRegistry },
      { folder: '_default', hostsDirectory: () => catchAll },
      { folder: 'with a path prefix', hostsDirectory: () => withPrefix },
    ])('pulls the right image of each registry ($folder), the second time from disk', async ({ hostsDirectory }) => {
      for (const upstream of site.upstreams) {
        expect(await pull(upstream, hostsDirectory())).toBe(upstream.image.digest);
        upstream.proxy.requests.length = 0;
        site.front.requests.length = 0;
        expect(await pull(upstream, hostsDirectory())).toBe(upstream.image.digest);
        expect(site.front.contentRequests().length).toBeGreaterThanOrEqual(upstream.image.blobs.length);
        expect(upstream.proxy.contentRequests()).toEqual([]);
      }
    });
  });
}
