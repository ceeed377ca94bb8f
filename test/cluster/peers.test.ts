import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { PeerPass, type PeerRequest } from '../../src/coordination/peer-pass.ts';
import { Seal } from '../../src/coordination/seal.ts';
import { SharedCoordinator } from '../../src/coordination/shared.ts';
import { filesOf, settled } from '../mirror/support.ts';
import type { RedisServer } from '../support/redis.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';
import { describeWith } from '../support/tools.ts';
import { clusterSecret, metric, redisDeadlineMs, startFleet } from './support.ts';

const MiB = 1024 * 1024;

/** A replica that has the secret and is not to be trusted all the same. */
async function startRogue(redis: RedisServer, answer: (path: string) => Buffer) {
  await using stack = new AsyncDisposableStack();
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.end(answer(request.url ?? ''));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => server.closeAllConnections());
  stack.defer(() => void server.close());
  const coordinator = stack.use(
    new SharedCoordinator({
      location: {
        kind: 'single',
        host: '127.0.0.1',
        port: redis.port,
        db: 0,
        tls: false,
        username: undefined,
        password: undefined,
      },
      keyPrefix: 'millpond:',
      seal: new Seal(Buffer.from(clusterSecret)),
      report: () => undefined,
      deadlineMs: redisDeadlineMs,
    }),
  );
  coordinator.join(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { id: 'impostor' });
  const owned = stack.move();
  return { coordinator, asked, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function seen(coordinator: SharedCoordinator, site: TestSite): Promise<{ id: string; boot: string }> {
  await expect.poll(() => coordinator.replicas.map(({ address }) => address)).toContain(site.origin);
  return coordinator.replicas.find(({ address }) => address === site.origin)!;
}

describeWith(['redis-server'], 'what a replica gives to another', () => {
  test('is refused if unsigned, forged, old, replayed, or meant for another one', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 1, upstreams: { 'docker.io': upstream } });
    const site = fleet.sites[0]!;
    await using rogue = await startRogue(fleet.redis, () => Buffer.alloc(0));
    const { id, boot } = await seen(rogue.coordinator, site);
    const blob = upstream.addBlob({ size: 1000, seed: 'private' });
    await site.get(`/v2/library/app/blobs/${blob.digest}`);
    await settled(site);
    const path = `/v2/_millpond/blobs/${blob.digest}?want=stored`;
    const request: PeerRequest = { method: 'GET', path, range: undefined, to: `${id}:${boot}` };
    const signedWith = (secret: string, changes: Partial<PeerRequest> = {}, now = Date.now()): string =>
      new PeerPass({ seal: new Seal(Buffer.from(secret)), toleranceMs: 1, now: () => now }).sign(
        { ...request, ...changes },
        'somebody',
      );
    const ask = async (pass: string | undefined, headers: Record<string, string> = {}) =>
      await site.get(path, { headers: { ...headers, ...(pass !== undefined && { 'millpond-pass': pass }) } });
    // Each is made in the moment in which it is shown: none becomes younger or older by waiting for the others.
    const refused: readonly (() => string | undefined)[] = [
      () => undefined,
      () => 'nonsense',
      () => signedWith('a secret of no replica here'),
      () => signedWith(clusterSecret, { path: path.replace('stored', 'fill') }),
      () => signedWith(clusterSecret, { to: `${id}:another-run` }),
      () => signedWith(clusterSecret, { range: 'bytes=0-1' }),
      () => signedWith(clusterSecret, {}, Date.now() - 61_000),
      () => signedWith(clusterSecret, {}, Date.now() + 70_000),
    ];
    for (const pass of refused) expect(await ask(pass())).toMatchObject({ status: 403 });
    const good = signedWith(clusterSecret, {}, Date.now() - 50_000);
    expect(await ask(good)).toMatchObject({ status: 200, sha256: blob.digest });
    expect(await ask(good)).toMatchObject({ status: 403 });
    const metrics = (await site.get('/metrics')).body.toString();
    for (const result of ['unsigned', 'forged', 'old', 'replayed', 'ok']) {
      expect(metrics).toMatch(new RegExp(`^millpond_peer_requests_total\\{result="${result}"\\} [1-9]`, 'm'));
    }
  });

  test('is not there where there is one process alone', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    expect((await site.get(`/v2/_millpond/blobs/sha256:${'0'.repeat(64)}?want=stored`)).status).toBe(404);
  });

  test('may be wrong: no client ends with a wrong byte, the upstream is asked, and the replica is left alone', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 1, upstreams: { 'docker.io': upstream } });
    const site = fleet.sites[0]!;
    const sizes = new Map<string, number>();
    await using rogue = await startRogue(fleet.redis, (path) =>
      Buffer.alloc(sizes.get(path.split(/[/?]/)[4] ?? '') ?? 0, 'x'),
    );
    await seen(rogue.coordinator, site);
    await expect.poll(() => metric(site, 'millpond_peer_replicas')).toBe(2);
    const small = upstream.addBlob({ size: 60_000, seed: 'small' });
    const large = upstream.addBlob({ size: 2 * MiB, seed: 'large' });
    for (const { digest, size } of [small, large]) {
      sizes.set(digest, size);
      await rogue.coordinator.hold(digest);
    }
    // All of a small one is held back until it is verified.
    expect(await site.get(`/v2/library/app/blobs/${small.digest}`)).toMatchObject({
      status: 200,
      sha256: small.digest,
    });
    expect(rogue.asked.filter((path) => path.includes('/blobs/'))).toHaveLength(1);
    expect(await site.get(`/v2/library/app/blobs/${large.digest}`)).toMatchObject({
      status: 200,
      sha256: large.digest,
    });
    expect(rogue.asked.filter((path) => path.includes('/blobs/'))).toHaveLength(1);
    expect(await metric(site, 'millpond_wrong_bytes_total')).toBe(1);
    expect(upstream.bytesSent(large.digest)).toBe(2 * MiB);
  });

  test('gives no right to read: that is the upstream of the replica that is asked to say', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
    const [one, other] = fleet.sites;
    const blob = upstream.addBlob({ size: MiB, seed: 'secret' }, { repository: 'team/secret' });
    expect(await one!.get(`/v2/team/secret/blobs/${blob.digest}`)).toMatchObject({ sha256: blob.digest });
    expect((await other!.get(`/v2/team/other/blobs/${blob.digest}`)).status).toBe(404);
    expect(await filesOf(other!)).toEqual([]);
    expect(await other!.get(`/v2/team/secret/blobs/${blob.digest}`)).toMatchObject({
      status: 200,
      sha256: blob.digest,
    });
    const gets = upstream.requestsFor(blob.digest).filter(({ method }) => method === 'GET');
    // What a HEAD says no to is asked for by a GET of one byte.
    expect(gets.map(({ path, headers }) => `${path.split('/')[3]} ${headers.range}`)).toEqual([
      'secret undefined',
      'other bytes=0-0',
    ]);
  });

  test('gives no right to a manifest either: by digest it is 404 where the upstream does not have it', async () => {
    await using upstream = await startRegistry();
    await using fleet = await startFleet({ replicas: 2, upstreams: { 'docker.io': upstream } });
    const [one, other] = fleet.sites;
    const { digest } = upstream.addImage('team/secret', '1', { layers: [{ size: 1000, seed: 'secret' }] });
    expect(await one!.get(`/v2/team/secret/manifests/${digest}`)).toMatchObject({ sha256: digest });
    await settled(one!);
    expect((await other!.get(`/v2/team/other/manifests/${digest}`)).status).toBe(404);
    expect(await filesOf(other!)).toEqual([]);
    expect(await other!.get(`/v2/team/secret/manifests/${digest}`)).toMatchObject({ status: 200, sha256: digest });
  });
});

describeWith(['redis-server'], 'replicas that cannot reach one another', () => {
  test('serve what they are asked for all the same', async () => {
    await using upstream = await startRegistry({ bytesPerSecond: { total: 20 * MiB } });
    // Nothing listens on the lowest ports.
    const advertise = (index: number): string => `http://127.0.0.1:${index + 2}`;
    await using fleet = await startFleet({ replicas: 3, upstreams: { 'docker.io': upstream }, advertise });
    const blob = upstream.addBlob({ size: 4 * MiB, seed: 'partition' });
    const path = `/v2/library/app/blobs/${blob.digest}`;
    const replies = await Promise.all(fleet.sites.map((site) => site.get(path, { keepBody: false })));
    for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    const [first, second] = fleet.sites;
    const image = upstream.addImage('library/app', '1', { layers: [{ size: 1000, seed: 'partition' }] });
    for (const site of [first!, second!]) {
      expect(await site.get('/v2/library/app/manifests/1')).toMatchObject({ status: 200, sha256: image.digest });
    }
  });
});

describeWith(['redis-server'], 'sharded replicas', () => {
  test('fetch a blob once, keep as many copies as configured, and serve it all', async () => {
    await using upstream = await startRegistry({ bytesPerSecond: { total: 40 * MiB } });
    const cluster = { placement: 'sharded', copies: 2 };
    await using fleet = await startFleet({ replicas: 4, upstreams: { 'docker.io': upstream }, cluster });
    const blobs = ['a', 'b', 'c'].map((seed) => upstream.addBlob({ size: 3 * MiB, seed: `sharded ${seed}` }));
    for (const { digest } of blobs) {
      const replies = await Promise.all(
        [...fleet.sites, ...fleet.sites].map((site) =>
          site.get(`/v2/library/app/blobs/${digest}`, { keepBody: false }),
        ),
      );
      for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: digest });
      expect(upstream.requestsFor(digest).filter(({ method }) => method === 'GET')).toHaveLength(1);
    }
    const held = async (): Promise<number> => (await Promise.all(fleet.sites.map(filesOf))).flat().length;
    await expect.poll(held).toBe(2 * blobs.length);
    const files = (await Promise.all(fleet.sites.map(filesOf))).flat();
    for (const { digest } of blobs) expect(files.filter((file) => file.endsWith(digest.slice(7)))).toHaveLength(2);
  });
});
