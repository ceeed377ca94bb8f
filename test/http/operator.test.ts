import { describe, expect, test } from 'vitest';
import { settled } from '../mirror/support.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';

const MiB = 1024 * 1024;

describe('what operators ask', () => {
  test('/healthz and /readyz answer without any upstream, and unknown paths are 404', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    await upstream.suspend();
    expect(await site.get('/healthz')).toMatchObject({ status: 200, complete: true });
    const ready = await site.get('/readyz');
    expect(ready.status).toBe(200);
    expect(JSON.parse(ready.body.toString())).toMatchObject({ status: 'ok', reasons: [] });
    expect((await site.get('/v1/_ping')).status).toBe(404);
    expect((await site.get('/nothing')).status).toBe(404);
  });

  test('/metrics counts requests, bytes and fills, by labels from closed sets', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream, 'quay.io': upstream } });
    const image = upstream.addImage('library/app', 'a-tag', { layers: [{ size: MiB, seed: 'metrics' }] });
    const layer = image.layers[0]!;
    await site.get('/v2/library/app/manifests/a-tag');
    await site.get(`/v2/library/app/blobs/${layer.digest}`);
    await settled(site);
    await site.get(`/v2/library/app/blobs/${layer.digest}`);
    await site.get('/v2/library/none/manifests/1?ns=quay.io');
    await site.get('/v2/library/app/manifests/1?ns=evil.example');
    await expect.poll(() => site.logLines.filter(({ msg }) => msg === 'request').length).toBe(5);
    const reply = await site.get('/metrics');
    expect(reply.headers['content-type']).toMatch(/^text\/plain/);
    const text = reply.body.toString();
    for (const sample of [
      'millpond_requests_total{upstream="docker.io",kind="blob",result="miss"} 1',
      'millpond_requests_total{upstream="docker.io",kind="blob",result="hit"} 1',
      'millpond_requests_total{upstream="quay.io",kind="manifest",result="refused"} 1',
      'millpond_requests_total{upstream="none",kind="manifest",result="refused"} 1',
      `millpond_client_bytes_total{upstream="docker.io",kind="blob"} ${2 * MiB}`,
      `millpond_upstream_bytes_total{upstream="docker.io"} ${MiB + image.size}`,
      'millpond_fills_total{result="stored"} 1',
      'millpond_fills_running 0',
      'millpond_request_duration_seconds_count{kind="blob",result="hit"} 1',
    ]) {
      expect(text).toContain(sample);
    }
    for (const unbounded of ['sha256', 'library', 'a-tag', 'evil']) expect(text).not.toContain(unbounded);
    for (const line of text.split('\n').filter((found) => found !== '' && !found.startsWith('#'))) {
      expect(line).toMatch(/^millpond_/);
    }
  });

  test('every request has one log line that says what was asked and what came of it', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const image = upstream.addImage('library/app', '1');
    await site.get('/v2/app/manifests/1?ns=docker.io', { headers: { 'user-agent': 'client/1' } });
    await site.head(`/v2/library/app/blobs/${image.layers[0]?.digest}`);
    await site.get('/v2/nothing');
    const lines = () => site.logLines.filter(({ msg }) => msg === 'request');
    await expect.poll(() => lines().length).toBe(3);
    expect(lines()[0]).toMatchObject({
      method: 'GET',
      path: '/v2/app/manifests/1',
      upstream: 'docker.io',
      repository: 'library/app',
      namedBy: 'ns',
      status: 200,
      bytes: image.size,
      userAgent: 'client/1',
    });
    expect(lines()[1]).toMatchObject({ method: 'HEAD', status: 200, bytes: 0 });
    expect(lines()[2]).toMatchObject({ method: 'GET', upstream: 'none', status: 404, result: 'refused' });
  });
});

describe('credentials of an upstream', () => {
  const username = 'robot-user';
  const password = 'hunter2-hunter2-hunter2';

  test('buy one token for fifty requests, go nowhere else, and are in no log line and no answer', async () => {
    await using upstream = await startRegistry({ token: { credentials: { username, password } } });
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], auth: { username, password } } },
    });
    const layers = Array.from({ length: 50 }, (_, index) => `layer ${index}`);
    const image = upstream.addImage('library/app', '1', { layers });
    upstream.fault(({ path, headers }) => path.includes('/blobs/') && headers.authorization !== undefined, {
      kind: 'redirect',
    });
    const replies = await Promise.all(image.layers.map(({ digest }) => site.get(`/v2/library/app/blobs/${digest}`)));
    for (const [index, reply] of replies.entries()) expect(reply.sha256).toBe(image.layers[index]?.digest);
    expect(upstream.tokens.issued('repository:library/app:pull')).toBe(1);
    expect(upstream.tokens.issued()).toBe(1);
    expect(upstream.cdn.requests).toHaveLength(50);
    for (const { headers, query } of upstream.cdn.requests) {
      expect(headers.authorization).toBeUndefined();
      expect(query.has('ns')).toBe(false);
    }
    // Tokens that the upstream forgets, credentials that it refuses: each has its own way through the code.
    upstream.clearFaults();
    upstream.tokens.revokeAll();
    replies.push(await site.get('/v2/library/app/manifests/1'));
    upstream.fault(({ path }) => path.includes('/other/'), {
      kind: 'status',
      status: 401,
      headers: { 'WWW-Authenticate': `Bearer realm="https://evil.example/token?x=${password}"` },
    });
    upstream.tokenServer.place(undefined, { kind: 'status', status: 500, body: password }, { times: 1 });
    for (const path of [
      '/v2/library/other/manifests/1',
      '/v2/library/third/manifests/1',
      '/v2/library/other/tags/list',
    ]) {
      replies.push(await site.get(path));
    }
    for (const reply of replies) expect(reply.status).not.toBe(401);
    await expect.poll(() => site.logLines.filter(({ msg }) => msg === 'request').length).toBe(replies.length);

    const tokens = upstream.requests.flatMap(({ headers }) => headers.authorization?.split(' ')[1] ?? []);
    expect(tokens.length).toBeGreaterThan(50);
    const basic = Buffer.from(`${username}:${password}`).toString('base64');
    const told = [
      JSON.stringify(site.logLines),
      (await site.get('/metrics')).body.toString(),
      ...replies.map((reply) => JSON.stringify(reply.rawHeaders) + reply.body.toString()),
    ].join('\n');
    for (const secret of [password, basic, username, 'X-Signature', ...new Set(tokens)])
      expect(told).not.toContain(secret);
  });
});
