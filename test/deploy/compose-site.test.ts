import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { reservePort } from '../support/ports.ts';
import { run } from '../support/processes.ts';
import { startRedis } from '../support/redis.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { startBalancer } from './nginx.ts';

const compose = fileURLToPath(new URL('../../deploy/compose', import.meta.url));
const MiB = 1024 * 1024;

/**
 * A replica does not hear Redis or the other one in time, and fetches for itself: what it should do where the machine is too
 * busy for them. Another blob is tried then.
 */
const trouble =
  /"msg":"(?:Redis lost|replicas changed|another replica cannot be read from|replica failed|source failed)\b/g;

/** Whether a replica hears Redis, and sees another one. */
async function isOfTwo({ origin }: MillpondProcess): Promise<boolean> {
  const metrics = (await get(`${origin}/metrics`)).body.toString();
  return /^millpond_peer_replicas 2$/m.test(metrics) && /^millpond_redis_connected 1$/m.test(metrics);
}

// Everything but the containers: the same secrets, configuration, nginx, Redis and processes.
describeWith(['redis-server', 'nginx'], 'what docker-compose.yml starts', () => {
  test('fetches a cold blob once for clients of both replicas, and goes on without Redis', async () => {
    await using secrets = await temporaryDirectory('secrets');
    const own = `${process.getuid?.()}:${process.getgid?.()}`;
    await run('sh', [join(compose, 'make-secrets.sh'), secrets.path, own, own]);
    const password = await readFile(join(secrets.path, 'redis-password'), 'utf8');
    await using redis = await startRedis({ args: ['--requirepass', password] });
    await using upstream = await startRegistry({ bytesPerSecond: { total: 20 * MiB } });
    const text = (await readFile(join(compose, 'millpond.yaml'), 'utf8'))
      .replaceAll('/run/secrets/millpond', secrets.path)
      .replace('redis://redis:6379', redis.url);
    await using ports = new AsyncDisposableStack();
    const startReplica = async (): Promise<MillpondProcess> => {
      const listen = `127.0.0.1:${ports.use(await reservePort()).port}`;
      const config = { ...(parse(text) as object), listen, upstreams: { 'docker.io': { urls: [upstream.origin] } } };
      return await startMillpond(config, { env: { MILLPOND_ADVERTISE: `http://${listen}` } });
    };
    await using first = await startReplica();
    await using second = await startReplica();
    const replicas = [first, second];
    await using nginx = await startBalancer([first.host, second.host]);
    const troubles = () => replicas.map(({ process }) => process.output.match(trouble)?.length ?? 0).join();
    let before: string;
    let attempt = 0;
    do {
      for (const replica of replicas) await expect.poll(() => isOfTwo(replica)).toBe(true);
      before = troubles();
      const blob = upstream.addBlob({ size: 10 * MiB, seed: `cold ${(attempt += 1)}` });
      const path = `/v2/library/app/blobs/${blob.digest}`;
      const replies = await Promise.all(Array.from({ length: 12 }, () => nginx.get(path, { keepBody: false })));
      for (const reply of replies) expect(reply).toMatchObject({ status: 200, complete: true, sha256: blob.digest });
      for (const replica of replicas) {
        await replica.process.untilOutput(new RegExp(`^(?=.*"path":"${path}").*"status":200`, 'm'));
      }
      const gets = upstream.requestsFor(blob.digest).filter(({ method }) => method === 'GET');
      if (troubles() === before) expect(gets).toHaveLength(1);
    } while (troubles() !== before);

    await redis.kill();
    const other = upstream.addBlob({ size: 200_000, seed: 'later' });
    const later = await Promise.all(
      Array.from({ length: 8 }, () => nginx.get(`/v2/library/app/blobs/${other.digest}`)),
    );
    for (const reply of later) expect(reply).toMatchObject({ status: 200, complete: true, sha256: other.digest });
  });
});
