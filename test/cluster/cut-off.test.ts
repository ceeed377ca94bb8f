import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { layLine, type NetworkNamespace, networkNamespace } from '../support/network-namespace.ts';
import { startProcess } from '../support/processes.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';
import { clusterSecret } from './support.ts';

const upstreamProgram = fileURLToPath(new URL('cut-off/upstream.ts', import.meta.url));
const redisPort = 6379;
/** Of each blob, in bytes. */
const size = 300_000;

describeWith(['root', 'ip', 'curl', 'redis-server'], 'a replica that is cut off from the others and from Redis', () => {
  test('serves from its disk and from the upstream, and joins again when the line is mended', async () => {
    await using stack = new AsyncDisposableStack();
    const { path } = stack.use(await temporaryDirectory('cut-off'));
    const far = stack.use(await networkNamespace());
    const near = stack.use(await networkNamespace());
    const line = await layLine(far, near);
    const [farAddress, nearAddress] = line.addresses;
    const start = async (network: NetworkNamespace, ready: RegExp, command: readonly string[]) => {
      const [program, ...args] = [...network.through, ...command];
      const { process, readyMatch } = await startProcess(program!, { args, ready, cwd: path });
      stack.use(process);
      return readyMatch;
    };
    // The cut replica keeps the upstream.
    const upstream = await start(near, /ready (\d+) (.+)$/m, [
      process.execPath,
      upstreamProgram,
      '0.0.0.0',
      String(size),
      'before',
      'during',
      ...Array.from({ length: 100 }, (_, count) => `after ${count}`),
    ]);
    const [, upstreamPort, digests] = upstream as unknown as [string, string, string];
    const [before, during, ...after] = digests.split(' ') as [string, string, ...string[]];
    await start(far, /Ready to accept connections/, [
      toolPath('redis-server'),
      '--port',
      String(redisPort),
      '--bind',
      farAddress,
      '--protected-mode',
      'no',
      '--save',
      '',
    ]);
    const secretFile = join(path, 'secret');
    await writeFile(secretFile, clusterSecret);
    const startReplica = async (network: NetworkNamespace, address: string): Promise<MillpondProcess> =>
      stack.use(
        await startMillpond(
          {
            listen: `${address}:0`,
            upstreams: { 'docker.io': { urls: [`http://${nearAddress}:${upstreamPort}`] } },
            redis: { url: `redis://${farAddress}:${redisPort}` },
            cluster: { secretFile },
          },
          { through: network.through },
        ),
      );
    const there = await startReplica(far, farAddress);
    const here = await startReplica(near, nearAddress);
    const ask = async (network: NetworkNamespace, mirror: MillpondProcess, question: string) => {
      const file = join(path, 'answer');
      const headers = await network.run('curl', [
        '-sS',
        '-m',
        '120',
        '-D',
        '-',
        '-o',
        file,
        `${mirror.origin}${question}`,
      ]);
      const body = await readFile(file);
      const [, cacheStatus] = /^cache-status: (.*?)\r?$/im.exec(headers) ?? [];
      return {
        digest: `sha256:${createHash('sha256').update(body).digest('hex')}`,
        cacheStatus,
        text: body.toString(),
      };
    };
    const blob = (digest: string): string => `/v2/library/app/blobs/${digest}`;
    const metric = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name} (\\d+)$`, 'm').exec((await ask(near, here, '/metrics')).text)?.[1]);
    const comesFromTheOther = async (): Promise<boolean> => {
      const digest = after.pop()!;
      expect((await ask(far, there, blob(digest))).digest).toBe(digest);
      await expect.poll(async () => (await ask(far, there, blob(digest))).cacheStatus).toBe('millpond; hit');
      const answer = await ask(near, here, blob(digest));
      expect(answer.digest).toBe(digest);
      return answer.cacheStatus === 'millpond; fwd=miss; detail=peer';
    };
    await expect.poll(() => metric('millpond_peer_replicas')).toBe(2);
    expect((await ask(far, there, blob(before))).digest).toBe(before);
    await expect.poll(async () => (await ask(far, there, blob(before))).cacheStatus).toBe('millpond; hit');
    expect(await ask(near, here, blob(before))).toMatchObject({ digest: before });
    // Now and then a replica does not hear Redis on a busy machine.
    await expect.poll(comesFromTheOther, { interval: 200 }).toBe(true);
    await expect.poll(async () => (await ask(near, here, blob(before))).cacheStatus).toBe('millpond; hit');
    await line.cut();
    expect(await ask(near, here, blob(before))).toMatchObject({ digest: before, cacheStatus: 'millpond; hit' });
    expect((await ask(near, here, blob(during))).digest).toBe(during);
    await expect.poll(async () => (await ask(near, here, '/readyz')).text).toContain('on its own');
    await line.mend();
    await expect.poll(() => metric('millpond_peer_replicas')).toBe(2);
    // A replica that could not be reached is left alone for a moment longer.
    await expect.poll(comesFromTheOther, { interval: 200 }).toBe(true);
  });
});
