import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatOrigin } from '../../src/config/origins.ts';
import { ConfigFolder, loadText } from './sources.ts';

describe('with no file', () => {
  test('the seven public registries are configured, anonymous, docker.io as the default', async () => {
    await using folder = await ConfigFolder.create();
    const { config, file } = await folder.load();
    expect(file).toBeUndefined();
    expect(config.upstreams.map((upstream) => [upstream.name, ...upstream.urls])).toEqual([
      ['docker.io', 'https://registry-1.docker.io'],
      ['ghcr.io', 'https://ghcr.io'],
      ['quay.io', 'https://quay.io'],
      ['registry.k8s.io', 'https://registry.k8s.io'],
      ['gcr.io', 'https://gcr.io'],
      ['mcr.microsoft.com', 'https://mcr.microsoft.com'],
      ['public.ecr.aws', 'https://public.ecr.aws'],
    ]);
    expect(config.upstreams.every((upstream) => upstream.auth === undefined)).toBe(true);
    expect(config.defaultUpstream).toBe('docker.io');
    expect(config.listen).toEqual({ host: '127.0.0.1', port: 5000 });
    expect(config.tls).toBeUndefined();
    expect(config.offline).toBe(false);
    expect(config.cache).toEqual({
      dir: join(folder.path, 'data'),
      maxSizeBytes: 100 * 2 ** 30,
      minFreeBytes: 5 * 2 ** 30,
      maxManifestSizeBytes: 4 * 2 ** 20,
      maxBlobSizeBytes: 50 * 2 ** 30,
      memoryBytes: 64 * 2 ** 20,
      maxFills: 64,
      scrub: { everyMs: 30 * 24 * 60 * 60 * 1000, rateBytesPerSecond: 20 * 1024 * 1024 },
      pins: [],
      tagTtlMs: 60_000,
      staleWhileRevalidateMs: 0,
      staleIfErrorMs: 30 * 86_400_000,
      negativeTtlMs: 10_000,
    });
    expect(config.timeouts).toEqual({
      connectMs: 3_000,
      headersMs: 8_000,
      idleMs: 30_000,
      answerMs: 10_000,
      drainMs: 30_000,
      clientIdleMs: 300_000,
    });
    expect(config.log).toEqual({ level: 'info', format: 'json' });
  });

  test('docker.io has its other names and its token service', async () => {
    await using folder = await ConfigFolder.create();
    const [hub] = (await folder.load()).config.upstreams;
    expect(hub).toMatchObject({
      aliases: ['index.docker.io', 'registry-1.docker.io'],
      tokenRealms: ['auth.docker.io'],
      maxConnections: 32,
      rateLimitFloor: 0,
      repositories: { allow: ['**'], deny: [] },
    });
  });

  test.each(['', '# nothing\n', '---\n'])('a file that holds nothing (%j) is the same', async (text) => {
    expect((await loadText(text)).config.upstreams).toHaveLength(7);
  });
});

describe('the order of precedence', () => {
  const text = 'listen: 127.0.0.1:1\ncache:\n  dir: from-file\nlog: { level: warn }\n';

  test('flag, then environment, then file, then default, each remembered', async () => {
    await using folder = await ConfigFolder.create();
    await folder.write('millpond.yaml', text);
    const { config, origins } = await folder.load({
      flags: { listen: '127.0.0.1:3' },
      environment: { MILLPOND_LISTEN: '127.0.0.1:2', MILLPOND_CACHE_DIR: 'from-environment' },
    });
    expect(config.listen.port).toBe(3);
    expect(config.cache.dir).toBe(join(folder.path, 'from-environment'));
    expect(config.log.level).toBe('warn');
    expect(formatOrigin(origins.of(['listen']))).toBe('flag --listen');
    expect(formatOrigin(origins.of(['cache', 'dir']))).toBe('env MILLPOND_CACHE_DIR');
    expect(formatOrigin(origins.of(['log', 'level']))).toBe('millpond.yaml:4');
    expect(formatOrigin(origins.of(['log', 'format']))).toBe('default');
  });

  test('all three flags and variables work without a file', async () => {
    await using folder = await ConfigFolder.create();
    const fromFlags = await folder.load({ flags: { listen: ':1', cacheDir: '/one', logLevel: 'debug' } });
    expect(fromFlags.config).toMatchObject({
      listen: { host: undefined, port: 1 },
      cache: { dir: '/one' },
      log: { level: 'debug' },
    });
    const fromEnvironment = await folder.load({
      environment: { MILLPOND_LISTEN: '[::1]:2', MILLPOND_CACHE_DIR: '/two', MILLPOND_LOG_LEVEL: 'error' },
    });
    expect(fromEnvironment.config).toMatchObject({
      listen: { host: '::1', port: 2 },
      cache: { dir: '/two' },
      log: { level: 'error' },
    });
  });

  test('an empty variable is as good as none', async () => {
    await using folder = await ConfigFolder.create();
    const { config } = await folder.load({
      environment: { MILLPOND_LISTEN: '', MILLPOND_CONFIG: '', MILLPOND_REDIS_URL: '' },
    });
    expect(config.listen.port).toBe(5000);
  });

  test('MILLPOND_ADVERTISE gives replicas that read one file an address each', async () => {
    await using folder = await ConfigFolder.create();
    await folder.write('millpond.yaml', 'cluster: { secretFile: secret, advertise: "http://10.0.0.1:5000" }\n');
    const { config, origins } = await folder.load({ environment: { MILLPOND_ADVERTISE: 'http://[fd00::7]:5000' } });
    expect(config.cluster).toMatchObject({
      advertise: 'http://[fd00::7]:5000',
      secretFile: join(folder.path, 'secret'),
    });
    expect(formatOrigin(origins.of(['cluster', 'advertise']))).toBe('env MILLPOND_ADVERTISE');
    await expect(folder.load({ environment: { MILLPOND_ADVERTISE: '10.0.0.7:5000' } })).rejects.toThrow(
      /^MILLPOND_ADVERTISE: cluster\.advertise: found "10\.0\.0\.7:5000"/,
    );
  });

  test('MILLPOND_CONFIG names the file, and --config goes over it', async () => {
    await using folder = await ConfigFolder.create();
    const one = await folder.write('one.yaml', 'listen: :1\n');
    await folder.write('two.yaml', 'listen: :2\n');
    const environment = { MILLPOND_CONFIG: one };
    expect((await folder.load({ environment })).config.listen.port).toBe(1);
    const loaded = await folder.load({ environment, flags: { config: 'two.yaml' } });
    expect(loaded.config.listen.port).toBe(2);
    expect(formatOrigin(loaded.origins.of(['listen']))).toBe('two.yaml:1');
  });
});

test('relative paths of a file count from its folder, those of flags from the working directory', async () => {
  await using folder = await ConfigFolder.create();
  await mkdir(join(folder.path, 'etc'));
  await folder.write(
    'etc/millpond.yaml',
    'cache: { dir: cache }\ntls: { certFile: a.pem, keyFile: /b.pem }\nupstreams: { a.example: { tls: { caFile: ca.pem } } }\n',
  );
  const flags = { config: 'etc/millpond.yaml' };
  const { config } = await folder.load({ flags });
  expect(config.cache.dir).toBe(join(folder.path, 'etc/cache'));
  expect(config.tls).toMatchObject({ certFile: join(folder.path, 'etc/a.pem'), keyFile: '/b.pem' });
  expect(config.upstreams[0]?.tls.caFile).toBe(join(folder.path, 'etc/ca.pem'));
  const overridden = await folder.load({ flags: { ...flags, cacheDir: 'cache' } });
  expect(overridden.config.cache.dir).toBe(join(folder.path, 'cache'));
});

describe('the table of upstreams', () => {
  test('a file that has one replaces the default table', async () => {
    const { config } = await loadText(
      'upstreams:\n  ghcr.io:\n  reg.example:5443:\n    urls: ["http://10.0.0.5:5000/"]\n',
    );
    expect(config.upstreams.map(({ name, urls }) => [name, urls])).toEqual([
      ['ghcr.io', ['https://ghcr.io']],
      ['reg.example:5443', ['http://10.0.0.5:5000']],
    ]);
  });

  test('names, aliases and hosts are the same in upper and lower case', async () => {
    const { config } = await loadText(
      'defaultUpstream: HUB.example\nupstreams:\n  Docker.IO: { aliases: [Hub.Example, INDEX.docker.io], hosts: [Mirror.Example] }\n',
    );
    expect(config.defaultUpstream).toBe('docker.io');
    expect(config.upstreams[0]).toMatchObject({
      name: 'docker.io',
      aliases: ['index.docker.io', 'registry-1.docker.io', 'hub.example'],
      hosts: ['mirror.example'],
    });
  });

  test('an upstream takes what it does not say from the cache and the time limits', async () => {
    const { config } = await loadText(
      'cache: { tagTtl: 7s }\ntimeouts: { connect: 1s, idle: 9s }\nupstreams:\n  a.example: { negativeTtl: 0, timeouts: { connect: 2s } }\n',
    );
    expect(config.upstreams[0]).toMatchObject({
      tagTtlMs: 7_000,
      staleWhileRevalidateMs: 0,
      staleIfErrorMs: 30 * 86_400_000,
      negativeTtlMs: 0,
    });
    expect(config.upstreams[0]?.timeouts).toEqual({
      connectMs: 2_000,
      headersMs: 8_000,
      idleMs: 9_000,
      answerMs: 10_000,
    });
  });

  test('a rule for tags takes what it does not say from its upstream, and that from the cache', async () => {
    const { config } = await loadText(
      `cache: { tagTtl: 7s, staleIfError: 1d, staleWhileRevalidate: 2s }
upstreams:
  a.example:
    staleIfError: 2d
    tags: [{ match: "v*.*.*", tagTtl: 365d }, { match: "*", repositories: [team/**], staleWhileRevalidate: 1h }]
`,
    );
    expect(config.upstreams[0]?.tags).toEqual([
      {
        match: 'v*.*.*',
        tagTtlMs: 365 * 86_400_000,
        staleWhileRevalidateMs: 2_000,
        staleIfErrorMs: 2 * 86_400_000,
      },
      {
        match: '*',
        repositories: ['team/**'],
        tagTtlMs: 7_000,
        staleWhileRevalidateMs: 3_600_000,
        staleIfErrorMs: 2 * 86_400_000,
      },
    ]);
  });

  test.each([
    ['docker.io where it is in the table', 'upstreams: { ghcr.io: , docker.io: }', 'docker.io'],
    ['nothing where docker.io is not in the table', 'upstreams: { ghcr.io: }', undefined],
    ['nothing where null is written', 'defaultUpstream: null', undefined],
    ['the upstream an alias stands for', 'defaultUpstream: index.docker.io', 'docker.io'],
  ])('the default upstream is %s', async (_, text, expected) => {
    expect((await loadText(text)).config.defaultUpstream).toBe(expected);
  });

  test('Redis and its Sentinels have passwords of their own, in files beside the configuration', async () => {
    await using folder = await ConfigFolder.create();
    await folder.write(
      'millpond.yaml',
      `redis:
  url: redis+sentinel://a:26379/fleet
  passwordFile: redis.txt
  sentinelUsername: millpond
  sentinelPasswordFile: sentinel.txt
cluster: { secretFile: secret.txt }
`,
    );
    expect((await folder.load()).config.redis).toMatchObject({
      passwordFile: join(folder.path, 'redis.txt'),
      sentinelUsername: 'millpond',
      sentinelPasswordFile: join(folder.path, 'sentinel.txt'),
    });
  });

  test('credentials have four sources', async () => {
    await using folder = await ConfigFolder.create();
    await folder.write(
      'millpond.yaml',
      `upstreams:
  a.example: { auth: { username: me, password: pw } }
  b.example: { auth: { username: me, passwordFile: pw.txt } }
  c.example: { auth: { username: me, passwordEnv: PW } }
  d.example: { auth: { dockerConfig: /root/.docker/config.json } }
`,
    );
    const [a, b, c, d] = (await folder.load()).config.upstreams.map((upstream) => upstream.auth);
    expect(a?.password?.reveal()).toBe('pw');
    expect(b).toEqual({ username: 'me', passwordFile: join(folder.path, 'pw.txt') });
    expect(c).toEqual({ username: 'me', passwordEnv: 'PW' });
    expect(d).toEqual({ dockerConfig: '/root/.docker/config.json' });
  });
});
