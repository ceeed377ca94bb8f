import { Agent } from 'node:http';
import { describe, expect, test } from 'vitest';
import { getText, rawClient } from '../http/raw-client.ts';
import { seededSource } from '../support/bytes.ts';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';

const app = '/v2/library/app';

/** A mirror with two front threads, in a process of its own. */
async function start(upstream: ScriptedRegistry, config: object = {}): Promise<MillpondProcess> {
  const upstreams = { 'docker.io': { urls: [upstream.origin] } };
  return await startMillpond({ upstreams, ...config, serve: { threads: 2 } });
}

async function metric(mirror: Pick<MillpondProcess, 'origin'>, name: string): Promise<number> {
  const { body } = await get(`${mirror.origin}/metrics`);
  return Number(new RegExp(String.raw`^millpond_${name} (\S+)`, 'm').exec(body.toString())?.[1] ?? 0);
}

describe('front threads', () => {
  test('answer what the main thread has decided, and have it decide the rest', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('library/app', 'v1', { layers: [seededSource(3_000_000, 1)] });
    await using mirror = await start(upstream);
    const agents = Array.from({ length: 8 }, () => new Agent({ keepAlive: true }));
    const layer = image.layers[0]!.digest;
    for (let round = 0; round < 4; round += 1) {
      for (const agent of agents) {
        const manifest = await get(`${mirror.origin}${app}/manifests/v1`, { agent });
        expect(manifest).toMatchObject({ status: 200, sha256: image.digest });
        expect(await get(`${mirror.origin}${app}/blobs/${layer}`, { agent })).toMatchObject({ sha256: layer });
        const part = await get(`${mirror.origin}${app}/blobs/${layer}`, { agent, headers: { range: 'bytes=5-9' } });
        expect(part).toMatchObject({ status: 206, receivedBytes: 5 });
      }
    }
    expect(upstream.requests.filter(({ digest }) => digest === layer)).toHaveLength(1);
    await expect.poll(() => metric(mirror, 'kept_answers_total')).toBeGreaterThan(60);
    expect(await metric(mirror, 'front_threads')).toBe(2);
    await expect.poll(() => mirror.process.output.split('"msg":"request"').length - 1).toBe(4 * 8 * 3);
    for (const agent of agents) agent.destroy();
  });

  test('give nothing that has changed: a tag that moved, as soon as that is known', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('library/app', 'v1', { config: '{"push":1}' });
    await using mirror = await start(upstream, { cache: { tagTtl: '1s' } });
    const agent = new Agent({ keepAlive: true });
    const ask = (): ReturnType<typeof get> => get(`${mirror.origin}${app}/manifests/v1`, { agent });
    for (let time = 0; time < 5; time += 1) await ask();
    const moved = upstream.addImage('library/app', 'v1', { config: '{"push":2}' });
    await expect.poll(async () => (await ask()).sha256).toBe(moved.digest);
    for (let time = 0; time < 5; time += 1) expect((await ask()).sha256).toBe(moved.digest);
    agent.destroy();
  });

  test('hand over what comes in pieces, at once, or is no request, with nothing lost', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('library/app', 'v1');
    await using mirror = await start(upstream);
    const text = getText(`${app}/manifests/${image.digest}`);
    using pieces = await rawClient(mirror.origin, { sends: text.slice(0, 20) });
    pieces.socket.write(text.slice(20));
    expect(await pieces.until((got) => got.endsWith('}'))).toMatch(/^HTTP\/1\.1 200 OK/);
    using ahead = await rawClient(mirror.origin, { sends: text + text + text });
    const got = await ahead.until((answer) => answer.split('HTTP/1.1 200').length === 4 && answer.endsWith('}'));
    expect(got.split('HTTP/1.1 200')).toHaveLength(4);
    using wrong = await rawClient(mirror.origin, { sends: 'NONSENSE\r\n\r\n' });
    await wrong.closed;
    expect(wrong.text()).toMatch(/^HTTP\/1\.1 400 /);
    using push = await rawClient(mirror.origin, {
      sends: `POST ${app}/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc`,
    });
    expect(await push.until((answer) => answer.includes('\r\n\r\n'))).toMatch(/^HTTP\/1\.1 405 /);
  });

  test('end when the mirror stops, with transfers under way whole', async () => {
    await using upstream = await startRegistry();
    const image = upstream.addImage('library/app', 'v1', { layers: [seededSource(30_000_000, 1)] });
    await using mirror = await start(upstream);
    const layer = image.layers[0]!.digest;
    await get(`${mirror.origin}${app}/blobs/${layer}`);
    await get(`${mirror.origin}${app}/blobs/${layer}`, { agent: new Agent({ keepAlive: true }) });
    let isUnderWay = (): void => undefined;
    const begun = new Promise<void>((resolve) => (isUnderWay = resolve));
    const pull = get(`${mirror.origin}${app}/blobs/${layer}`, {
      agent: new Agent({ keepAlive: true }),
      bytesPerSecond: 20_000_000,
      onBytes: () => isUnderWay(),
    });
    await begun;
    mirror.process.kill('SIGTERM');
    expect(await pull).toMatchObject({ complete: true, sha256: layer });
    await mirror.process.untilOutput(/"msg":"stopped"/);
  });

  test('let what the main thread sends over their connections end whole, too, when the mirror stops', async () => {
    await using upstream = await startRegistry();
    await using mirror = await start(upstream);
    const blob = upstream.addBlob({ size: 2_000_000, seed: 'stopping' });
    const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
    const agent = new Agent({ keepAlive: true });
    const pull = get(`${mirror.origin}${app}/blobs/${blob.digest}`, { agent });
    await stalled.reached;
    mirror.process.kill('SIGTERM');
    await mirror.process.untilOutput(/"msg":"stopping"/);
    stalled.release();
    expect(await pull).toMatchObject({ complete: true, sha256: blob.digest });
    expect(await mirror.process.exited()).toBe(0);
    agent.destroy();
  });

  test('count in the metrics with the main thread, and keep the limits together with it', async () => {
    await using upstream = await startRegistry();
    const limits = { connections: 8, perClient: { connections: 8 } };
    await using mirror = await start(upstream, { limits, listeners: { metrics: { listen: '127.0.0.1:0' } } });
    const [, metricsAddress] = /"listener":"metrics","address":"([^"]+)"/.exec(mirror.process.output) ?? [];
    const counted = async (): Promise<number> =>
      await metric({ origin: `http://${metricsAddress}` }, 'client_connections');
    using clients = new DisposableStack();
    let accepted = 0;
    for (let count = 0; count < 14; count += 1) {
      const client = clients.use(await rawClient(mirror.origin, { sends: getText('/v2/') }));
      if ((await client.until((text) => text.endsWith('}'))).startsWith('HTTP/1.1 200')) accepted += 1;
    }
    // One that goes from thread to thread counts in both for a moment.
    expect(accepted).toBeGreaterThan(4);
    expect(accepted).toBeLessThanOrEqual(8);
    // The one that asks for the metrics is counted, too.
    await expect.poll(counted).toBe(accepted + 1);
  });

  test('share no port with another program', async () => {
    await using upstream = await startRegistry();
    await using mirror = await start(upstream);
    const listen = new URL(mirror.origin).host;
    await expect(start(upstream, { listen })).rejects.toThrow(/another program listens there/);
  });
});
