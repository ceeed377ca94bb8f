import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Authority, type Certificate, makeAuthority } from '../support/certificates.ts';
import { get } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { type RedisServer, startRedis } from '../support/redis.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { clusterSecret, redisDeadlineMs } from './support.ts';

const MiB = 1024 * 1024;

describeWith(['redis-server', 'openssl'], 'replicas with tls.clientCaFile', () => {
  const owned = new AsyncDisposableStack();
  let folder: TemporaryDirectory;
  let redis: RedisServer;
  let authority: Authority;
  let replica: Certificate;
  beforeAll(async () => {
    folder = owned.use(await temporaryDirectory('cluster-tls'));
    redis = owned.use(await startRedis());
    authority = await makeAuthority(folder.path, 'authority');
    replica = await authority.issue('replica');
    await writeFile(join(folder.path, 'secret'), clusterSecret);
  });
  afterAll(() => owned.disposeAsync());

  const start = (upstream: { readonly origin: string }, shown: Certificate): Promise<TestSite> =>
    startTestSite({
      upstreams: { 'docker.io': upstream },
      redisDeadlineMs,
      config: {
        tls: { certFile: shown.certFile, keyFile: shown.keyFile, clientCaFile: authority.certFile },
        redis: { url: redis.url },
        cluster: { secretFile: join(folder.path, 'secret') },
      },
    });
  const urlOf = (site: TestSite, path: string): string => `${site.origin.replace(/^http:/, 'https:')}${path}`;

  test('read from one another over TLS, and refuse clients without a certificate', async () => {
    await using upstream = await startRegistry();
    await using one = await start(upstream, replica);
    await using other = await start(upstream, replica);
    const client = { ca: authority.cert, ...(await authority.issue('client')) };
    const metric = async (site: TestSite, name: string): Promise<number> => {
      const text = (await get(urlOf(site, '/metrics'), client)).body.toString();
      return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
    };
    for (const site of [one, other]) await expect.poll(() => metric(site, 'millpond_peer_replicas')).toBe(2);
    const blob = upstream.addBlob({ size: MiB, seed: 'over TLS' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    for (const site of [one, other]) {
      expect(await get(urlOf(site, path), client)).toMatchObject({ status: 200, sha256: blob.digest });
    }
    expect(upstream.bytesSent(blob.digest)).toBe(MiB);
    expect(await metric(other, 'millpond_peer_received_bytes_total')).toBe(MiB);
    const stranger = await (await makeAuthority(folder.path, 'another')).issue('stranger');
    for (const shown of [{}, { cert: stranger.cert, key: stranger.key }]) {
      await expect(get(urlOf(one, path), { ca: authority.cert, ...shown })).rejects.toThrow();
    }
  });

  test('leave one alone whose certificate is of another authority: it serves by itself', async () => {
    await using upstream = await startRegistry();
    await using one = await start(upstream, replica);
    const third = await makeAuthority(folder.path, 'third');
    const stranger = await third.issue('odd one');
    await using odd = await start(upstream, stranger);
    const client = { ca: authority.cert, ...(await authority.issue('client')) };
    const seen = async (): Promise<boolean> =>
      (await get(urlOf(one, '/metrics'), client)).body.toString().includes('millpond_peer_replicas 2');
    await expect.poll(seen).toBe(true);
    // The manifest comes first, and then no replica asks that one for the blob.
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'small' }] });
    for (const [site, ca] of [
      [odd, third.cert],
      [one, authority.cert],
    ] as const) {
      const reply = await get(urlOf(site, '/v2/library/app/manifests/1'), { ...client, ca });
      expect(reply).toMatchObject({ status: 200, sha256: image.digest });
    }
    const warnings = one.logLines.filter(({ msg }) => msg === 'another replica cannot be read from');
    expect(warnings).toMatchObject([
      { address: urlOf(odd, ''), fault: 'unreachable', reason: expect.stringContaining('certificate') as string },
    ]);
    const metrics = (await get(urlOf(one, '/metrics'), client)).body.toString();
    expect(metrics).toMatch(/^millpond_peer_failures_total\{fault="unreachable"\} 1$/m);
    const status = await runCommand(['status', '--cache-dir', one.cacheDir], one.cacheDir);
    expect(status.stdout.replaceAll(/\s+/g, ' ')).toMatch(/ \(.*unreachable at \d{4}-\S+: .*certificate\)/);
    const blob = upstream.addBlob({ size: MiB, seed: 'another authority' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    expect(await get(urlOf(one, path), client)).toMatchObject({ sha256: blob.digest });
    // It can neither check the other's certificate nor show one that is accepted there.
    expect(await get(urlOf(odd, path), { ...client, ca: third.cert })).toMatchObject({ sha256: blob.digest });
    expect(upstream.bytesSent(blob.digest)).toBe(2 * MiB);
  });
});
