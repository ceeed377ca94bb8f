import { afterAll, beforeAll, expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { type Balancer, startBalancer } from './nginx.ts';

describeWith(['nginx'], 'the nginx in front of two replicas', () => {
  const stack = new AsyncDisposableStack();
  let upstream: ScriptedRegistry;
  let replicas: readonly [MillpondProcess, MillpondProcess];
  let nginx: Balancer;
  beforeAll(async () => {
    upstream = stack.use(await startRegistry());
    const start = async (): Promise<MillpondProcess> =>
      stack.use(
        await startMillpond({
          upstreams: {
            'registry.test:5443': { urls: [upstream.origin] },
            'broken.test': { urls: ['http://127.0.0.1:1'] },
          },
        }),
      );
    replicas = [await start(), await start()];
    nginx = stack.use(await startBalancer([replicas[0].host, replicas[1].host]));
  });
  afterAll(async () => {
    await stack.disposeAsync();
  });
  showOutputOnFailure(() => [nginx?.process, ...(replicas ?? []).map(({ process }) => process)]);

  const blobPath = (digest: string): string => `/v2/library/app/blobs/${digest}?ns=registry.test%3A5443`;

  test('blobs, ranges and HEAD come through as a replica gives them', async () => {
    const blob = upstream.addBlob({ size: 5_000_000, seed: 1 });
    const whole = await nginx.get(blobPath(blob.digest));
    expect(whole).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    expect(whole.headers).toMatchObject({
      'content-length': '5000000',
      'docker-content-digest': blob.digest,
      'oci-namespace': 'registry.test:5443',
    });
    expect(whole.headers['cache-status']).toContain('millpond');
    const part = await nginx.get(blobPath(blob.digest), { headers: { range: 'bytes=1000000-1000099' } });
    expect(part).toMatchObject({ status: 206, receivedBytes: 100 });
    expect(part.headers['content-range']).toBe('bytes 1000000-1000099/5000000');
    expect(part.body.equals(whole.body.subarray(1_000_000, 1_000_100))).toBe(true);
    const head = await nginx.get(blobPath(blob.digest), { method: 'HEAD' });
    expect(head).toMatchObject({ status: 200, receivedBytes: 0 });
    expect(head.headers['content-length']).toBe('5000000');
  });

  test('a body that a replica cuts because its bytes are wrong is cut for the client too', async () => {
    const blob = upstream.addBlob({ size: 3_000_000, seed: 2 });
    upstream.fault(blob.digest, { kind: 'flip' });
    const reply = await nginx.get(blobPath(blob.digest));
    expect(reply).toMatchObject({ status: 200, complete: false });
    expect(reply.receivedBytes).toBeLessThan(3_000_000);
  });

  test('refusals that tell of a registry are passed on, and no replica is left out for them', async () => {
    const blob = upstream.addBlob({ size: 100_000, seed: 3 });
    for (const replica of replicas) expect((await get(`${replica.origin}${blobPath(blob.digest)}`)).status).toBe(200);
    const paths = Array.from({ length: 12 }, (_, index) => `/v2/library/app${index}/manifests/v1?ns=broken.test`);
    for (const path of paths) expect((await nginx.get(path)).status).toBe(502);
    expect(nginx.process.output).not.toContain('no live upstreams');
    expect(await nginx.get(blobPath(blob.digest))).toMatchObject({ status: 200, sha256: blob.digest });
  });

  test('only the registry and its health are reached', async () => {
    for (const path of ['/v2/', '/healthz', '/readyz']) expect((await nginx.get(path)).status).toBe(200);
    for (const path of ['/metrics', '/', '/v1/', '/v2/_millpond/blobs/sha256:0', '/v2/_millpond/answers'])
      expect((await nginx.get(path)).status).toBe(404);
  });

  test('a replica that is killed costs no client an answer', async () => {
    const blob = upstream.addBlob({ size: 200_000, seed: 5 });
    replicas[0].process.kill('SIGKILL');
    await replicas[0].process.exited();
    const replies = await Promise.all(Array.from({ length: 40 }, () => nginx.get(blobPath(blob.digest))));
    for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
    await nginx.process.untilOutput(/Connection refused/);
  });
});
