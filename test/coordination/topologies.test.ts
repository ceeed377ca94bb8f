import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeAuthority } from '../support/certificates.ts';
import { reservePort } from '../support/ports.ts';
import { run, startProcess } from '../support/processes.ts';
import { startRedis } from '../support/redis.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';
import { digest, sees, startCoordinator } from './support.ts';

const login = { tls: false, username: undefined, password: undefined };

/** @param busPort by default the port of the clients and 10,000, which may be taken, or no port at all */
function ofCluster(busPort: number): string[] {
  return ['--cluster-enabled', 'yes', '--cluster-announce-ip', '127.0.0.1', '--cluster-port', String(busPort)];
}

describeWith(['redis-server', 'redis-cli', 'openssl'], 'replicas agree', () => {
  async function agree(location: NonNullable<Parameters<typeof startCoordinator>[2]>['location']): Promise<void> {
    await using a = startCoordinator(0, 'a', { location });
    await using b = startCoordinator(0, 'b', { location });
    for (const { coordinator } of [a, b]) await expect.poll(sees(coordinator, 1)).toBe(true);
    expect(await a.coordinator.claim(digest(1))).toMatchObject({ kind: 'lease' });
    expect(await b.coordinator.claim(digest(1))).toMatchObject({
      kind: 'filling',
      replicas: [{ id: a.coordinator.self }],
    });
    const key = { repository: 'docker.io/library/app', tag: '1', variant: '', access: 'alike' };
    expect(await a.coordinator.claimTag(key, { maxAgeMs: 1_000, signal: AbortSignal.timeout(60_000) })).toEqual({
      kind: 'ours',
    });
    await a.coordinator.announce({ kind: 'pin', repository: 'docker.io/library/app', reference: '1' });
    await expect.poll(() => b.heard.messages).toHaveLength(1);
    await (await b.coordinator.enter('docker.io', { max: 1, signal: AbortSignal.timeout(60_000) }))[
      Symbol.asyncDispose
    ]();
    await a.coordinator.recordMissing('x', { code: 'BLOB_UNKNOWN', message: 'none' }, { forMs: 60_000 });
    expect(await b.coordinator.missing('x')).toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect([a.events, b.events]).toEqual([['found'], ['found']]);
  }

  test('through a Redis Cluster', async () => {
    await using bus = await reservePort();
    await using redis = await startRedis({ args: ofCluster(bus.port) });
    await run('redis-cli', ['-p', String(redis.port), 'cluster', 'addslotsrange', '0', '16383']);
    await expect
      .poll(() => run('redis-cli', ['-p', String(redis.port), 'cluster', 'info']))
      .toContain('cluster_state:ok');
    await agree({ ...login, kind: 'cluster', nodes: [{ host: '127.0.0.1', port: redis.port }] });
  });

  test('through a Redis Cluster whose certificates are for names', async () => {
    await using directory = await temporaryDirectory('cluster-tls');
    const authority = await makeAuthority(directory.path, 'authority');
    const { certFile, keyFile } = await authority.issue('redis', 'DNS:localhost');
    await using reserved = await reservePort();
    await using bus = await reservePort();
    const { port } = reserved;
    const tls = {
      '--tls-port': port,
      '--cluster-port': bus.port,
      '--tls-cert-file': certFile,
      '--tls-key-file': keyFile,
      '--tls-ca-cert-file': authority.certFile,
      '--tls-auth-clients': 'no',
      '--tls-cluster': 'yes',
      '--cluster-enabled': 'yes',
      '--cluster-announce-ip': '127.0.0.1',
      '--cluster-announce-hostname': 'localhost',
      '--cluster-preferred-endpoint-type': 'hostname',
    };
    await using redis = await startRedis({ args: Object.entries(tls).flat().map(String) });
    await run('redis-cli', ['-p', String(redis.port), 'cluster', 'addslotsrange', '0', '16383']);
    const nodes = [{ host: 'localhost', port }];
    await agree({ ...login, tls: true, ca: authority.cert, kind: 'cluster', nodes });
  });

  test('through what is left of a Redis Cluster', async () => {
    await using oneBus = await reservePort();
    await using otherBus = await reservePort();
    const args = (busPort: number) => [...ofCluster(busPort), '--cluster-require-full-coverage', 'no'];
    await using one = await startRedis({ args: args(oneBus.port) });
    await using other = await startRedis({ args: args(otherBus.port) });
    const ask = (port: number, ...words: string[]) => run('redis-cli', ['-p', String(port), 'cluster', ...words]);
    const slotOf = async (text: string) => Number(await ask(one.port, 'keyslot', text));
    const fleet = await slotOf('fleet');
    await ask(one.port, 'addslotsrange', '0', String(fleet));
    await ask(other.port, 'addslotsrange', String(fleet + 1), '16383');
    await ask(one.port, 'meet', '127.0.0.1', String(other.port), String(otherBus.port));
    for (const { port } of [one, other]) {
      await expect.poll(() => ask(port, 'info')).toContain('cluster_slots_ok:16384');
    }
    const at = async (isHere: boolean) => {
      for (let number = 1; ; number += 1) if ((await slotOf(digest(number))) <= fleet === isHere) return digest(number);
    };
    const [here, there] = [await at(true), await at(false)];
    const location = { ...login, kind: 'cluster', nodes: [{ host: '127.0.0.1', port: one.port }] } as const;
    await using a = startCoordinator(0, 'a', { location });
    await expect.poll(sees(a.coordinator, 0)).toBe(true);
    expect(await a.coordinator.claim(there)).toMatchObject({ kind: 'lease' });
    await other.kill();
    for (let turn = 0; turn < 20; turn += 1) {
      expect(await a.coordinator.claim(there)).toEqual({ kind: 'alone' });
      expect(await a.coordinator.claim(here)).toMatchObject({ kind: 'lease' });
    }
    expect(a.events).toEqual(['found']);
  });

  test.each([
    { what: 'names', lines: [], sentinel: {} },
    {
      what: 'names to who knows its password',
      lines: ['requirepass "of the sentinel"'],
      sentinel: { sentinelPassword: 'of the sentinel' },
    },
    {
      what: 'names to a user of its own',
      lines: ['user millpond on >secret ~* &* +@all'],
      sentinel: { sentinelUsername: 'millpond', sentinelPassword: 'secret' },
    },
  ])('through a Redis that Sentinel $what', async ({ lines, sentinel }) => {
    await using redis = await startRedis();
    await using directory = await temporaryDirectory('sentinel');
    await using reserved = await reservePort();
    const { port } = reserved;
    const file = join(directory.path, 'sentinel.conf');
    const own = [`port ${port}`, 'bind 127.0.0.1', `dir ${directory.path}`];
    await writeFile(file, [...own, `sentinel monitor fleet 127.0.0.1 ${redis.port} 1`, ...lines, ''].join('\n'));
    const { process } = await startProcess(toolPath('redis-server'), {
      args: [file, '--sentinel'],
      ready: /\+monitor master fleet/,
    });
    await using _sentinel = process;
    const sentinels = [{ host: '127.0.0.1', port }];
    await agree({ ...login, ...sentinel, kind: 'sentinel', sentinels, name: 'fleet', db: 0 });
  });

  test('through a Redis that speaks TLS and asks for a password', async () => {
    await using directory = await temporaryDirectory('redis-tls');
    const authority = await makeAuthority(directory.path, 'authority');
    const { certFile, keyFile } = await authority.issue('redis');
    await using reserved = await reservePort();
    const tlsPort = String(reserved.port);
    const tls = [
      '--tls-port',
      tlsPort,
      '--tls-cert-file',
      certFile,
      '--tls-key-file',
      keyFile,
      '--tls-auth-clients',
      'no',
    ];
    await using _redis = await startRedis({ args: [...tls, '--requirepass', 'of this test'] });
    const location = { kind: 'single', host: '127.0.0.1', port: Number(tlsPort), db: 0, username: undefined } as const;
    await agree({ ...location, tls: true, ca: authority.cert, password: 'of this test' });
    for (const refused of [
      { ca: authority.cert, password: 'another' },
      { ca: undefined, password: 'of this test' },
    ]) {
      await using stranger = startCoordinator(0, 'stranger', { location: { ...location, tls: true, ...refused } });
      await expect.poll(() => stranger.coordinator.status().reason).not.toContain('not been reached yet');
      expect(stranger.coordinator.status().state).toBe('lost');
    }
  });
});
