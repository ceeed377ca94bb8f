import { afterAll, beforeAll, expect, test } from 'vitest';
import { get, type Reply } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';
import { type Balancer, startFileSender } from './nginx.ts';

describeWith(['nginx', 'root'], 'the nginx that sends the files of one mirror', () => {
  const stack = new AsyncDisposableStack();
  let upstream: ScriptedRegistry;
  let mirror: MillpondProcess;
  let nginx: Balancer;
  beforeAll(async () => {
    upstream = stack.use(await startRegistry());
    mirror = stack.use(
      await startMillpond({
        upstreams: { 'registry.test': { urls: [upstream.origin] } },
        serve: { sendfile: 'nginx' },
      }),
    );
    nginx = stack.use(await startFileSender(mirror, { user: 'root' }));
  });
  afterAll(() => stack.disposeAsync());
  showOutputOnFailure(() => [nginx?.process, mirror?.process]);

  const pathOf = (digest: string): string => `/v2/library/app/blobs/${digest}?ns=registry.test`;

  /** A blob that Millpond hands over, which it does once the fill of it is over. */
  const storedBlob = async (options: { size: number; seed: number }): Promise<{ digest: string }> => {
    const blob = upstream.addBlob(options);
    const ask = async (): Promise<Reply> => await get(`${mirror.origin}${pathOf(blob.digest)}`);
    await expect.poll(async () => (await ask()).headers['x-accel-redirect']).toBeDefined();
    return blob;
  };

  /** All headers but those that differ by nature; nginx leaves `Accept-Ranges` out of a 206. */
  const comparable = ({ rawHeaders }: Reply): string[] => {
    const lines: string[] = [];
    for (let at = 0; at < rawHeaders.length; at += 2) {
      const line = `${rawHeaders[at]!.toLowerCase()}: ${rawHeaders[at + 1]!}`;
      if (!/^(?:date|server|accept-ranges|connection|keep-alive):/.test(line))
        lines.push(line.replace(/boundary=.*/, ''));
    }
    return lines.toSorted();
  };

  test('answers in every form as Millpond itself would, from the file', async () => {
    const blob = await storedBlob({ size: 3_000_000, seed: 1 });
    const forms: readonly Record<string, string>[] = [
      {},
      { range: 'bytes=1000000-1000099' },
      { range: 'bytes=-5' },
      { range: 'bytes=5-9', 'if-range': `"${blob.digest}"` },
      { range: 'bytes=5-9', 'if-range': '"other"' },
      { range: 'bytes=9999999-' },
      { 'if-none-match': `"${blob.digest}"` },
      { 'if-modified-since': 'Fri, 01 Jan 2100 00:00:00 GMT' },
    ];
    for (const headers of forms) {
      const ours = await get(`${mirror.origin}${pathOf(blob.digest)}`, {
        headers: { ...headers, 'millpond-sendfile': 'off' },
      });
      // Decided, and then given again without a decision.
      for (let time = 0; time < 2; time += 1) {
        const theirs = await nginx.get(pathOf(blob.digest), { headers });
        const form = JSON.stringify(headers);
        expect([theirs.status, theirs.complete, theirs.sha256], form).toEqual([ours.status, true, ours.sha256]);
        expect(comparable(theirs), form).toEqual(comparable(ours));
      }
    }
    const parts = await nginx.get(pathOf(blob.digest), { headers: { range: 'bytes=0-1,7-8' } });
    expect(parts).toMatchObject({ status: 206, complete: true });
    const head = await nginx.get(pathOf(blob.digest), { method: 'HEAD' });
    expect(head).toMatchObject({ status: 200, receivedBytes: 0 });
    expect(head.headers['content-length']).toBe('3000000');
    expect(upstream.requests.filter(({ digest }) => digest === blob.digest)).toHaveLength(1);
  });

  test('a client does not reach the files by their place, nor asks for them past nginx', async () => {
    const blob = await storedBlob({ size: 100_000, seed: 2 });
    const place = `/_millpond_blobs/${blob.digest.replace(':', '/')}`;
    expect((await nginx.get(place)).status).toBe(404);
    const direct = await get(`${mirror.origin}${pathOf(blob.digest)}`);
    expect(direct).toMatchObject({ status: 200, receivedBytes: 0 });
    expect(direct.headers).toMatchObject({ 'x-accel-redirect': place, 'content-length': '0' });
    const asked = await nginx.get(pathOf(blob.digest), { headers: { 'millpond-sendfile': 'off' } });
    expect(asked).toMatchObject({ status: 200, sha256: blob.digest });
    expect(asked.headers['x-accel-redirect']).toBeUndefined();
  });

  test('what is not stored, or small, comes from Millpond', async () => {
    const small = upstream.addBlob({ size: 5_000, seed: 3 });
    const cold = upstream.addBlob({ size: 500_000, seed: 4 });
    for (const { digest } of [small, cold, small]) {
      expect(await nginx.get(pathOf(digest))).toMatchObject({ status: 200, complete: true, sha256: digest });
    }
    expect((await nginx.get(pathOf(`sha256:${'0'.repeat(64)}`))).status).toBe(404);
  });

  test('a file that nginx cannot read comes from Millpond, which can', async () => {
    const blob = await storedBlob({ size: 200_000, seed: 5 });
    await using unprivileged = await startFileSender(mirror, { user: 'nobody' });
    for (const headers of [{}, { range: 'bytes=10-19' }] as Record<string, string>[]) {
      const [theirs, ours] = [
        await unprivileged.get(pathOf(blob.digest), { headers }),
        await nginx.get(pathOf(blob.digest), { headers }),
      ];
      expect([theirs.status, theirs.complete, theirs.sha256]).toEqual([ours.status, true, ours.sha256]);
      expect(theirs.headers['docker-content-digest']).toBe(blob.digest);
    }
    await unprivileged.process.untilOutput(/Permission denied/);
  });
});
