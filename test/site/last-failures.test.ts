import { expect, test } from 'vitest';
import { json } from '../support/client.ts';
import { reservePort } from '../support/ports.ts';
import { startTestSite } from '../support/site.ts';

test('an upstream that the first pull could not reach is reported by readyz, until that is long ago', async () => {
  await using port = await reservePort();
  let nowMs = Date.now();
  await using site = await startTestSite({
    upstreams: { 'docker.io': { origin: `http://127.0.0.1:${port.port}` } },
    now: () => nowMs,
  });
  expect((await site.get('/v2/library/app/manifests/v1')).status).toBe(502);
  const readiness = async () => json<{ status: string; reasons: string[] }>(await site.get('/readyz'));
  await expect.poll(readiness).toEqual({ status: 'degraded', reasons: [expect.stringContaining('ECONNREFUSED')] });
  nowMs += 3_600_000;
  expect(await readiness()).toEqual({ status: 'ok', reasons: [] });
});
