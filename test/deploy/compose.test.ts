import { access, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../../src/config/load.ts';
import { run, startProcess } from '../support/processes.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const secretsScript = join(root, 'deploy', 'compose', 'make-secrets.sh');

interface Service {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly entrypoint?: readonly string[];
  readonly user?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly string[];
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly depends_on?: Readonly<Record<string, unknown>>;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly security_opt?: readonly string[];
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>;
}

async function compose(): Promise<ComposeFile> {
  return parse(await readFile(join(root, 'docker-compose.yml'), 'utf8'), { merge: true }) as ComposeFile;
}

async function serviceOf(name: string): Promise<Service> {
  const service = (await compose()).services[name];
  if (service === undefined) throw new Error(`no service ${name}`);
  return service;
}

async function dockerfile(): Promise<string> {
  return await readFile(join(root, 'deploy', 'Dockerfile'), 'utf8');
}

describe('docker-compose.yml', () => {
  test('builds the image of this checkout, and gives each replica a cache at the place that the image says', async () => {
    const image = await dockerfile();
    const place = /^VOLUME (\S+)$/m.exec(image)?.[1];
    expect(image).toContain(`MILLPOND_CACHE_DIR=${place}`);
    for (const number of [1, 2]) {
      const replica = await serviceOf(`millpond-${number}`);
      expect(replica.build).toEqual({ context: '.', dockerfile: 'deploy/Dockerfile' });
      expect(replica.volumes).toContain(`cache-${number}:${place}`);
    }
  });

  test('every file, volume and network that it names is there, and no volume is unused', async () => {
    const { services, volumes, networks } = await compose();
    const mounts = Object.values(services).flatMap((service) => service.volumes ?? []);
    const sources = mounts.map((mount) => mount.split(':')[0] ?? '');
    for (const source of sources.filter((name) => name.startsWith('.'))) await access(join(root, source));
    const named = [...new Set(sources.filter((name) => !name.startsWith('.')))];
    expect(named.toSorted()).toEqual(Object.keys(volumes).toSorted());
    for (const { networks: joined = [], depends_on: others = {} } of Object.values(services)) {
      expect(Object.keys(networks)).toEqual(expect.arrayContaining([...joined]));
      expect(Object.keys(services)).toEqual(expect.arrayContaining(Object.keys(others)));
    }
  });

  test('Redis is on the inner network alone, and the one open port is of this machine', async () => {
    const { services, networks } = await compose();
    expect(networks['inside']).toEqual({ internal: true });
    expect(services['redis']?.networks).toEqual(['inside']);
    const ports = Object.values(services).flatMap((service) => service.ports ?? []);
    expect(ports).toEqual(['127.0.0.1:5000:8080']);
    expect(await readFile(join(root, 'deploy', 'nginx', 'nginx.conf'), 'utf8')).toContain('listen 8080;');
  });

  test('nothing that runs may do more than it needs', async () => {
    const { services } = await compose();
    for (const [name, service] of Object.entries(services)) {
      expect(service, name).toMatchObject({
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
      });
      expect(service.cap_add, name).toEqual(name === 'secrets' ? ['CHOWN'] : undefined);
      const own = service.image === 'millpond' ? /^USER (\S+)$/m.exec(await dockerfile())?.[1] : undefined;
      expect(service.user ?? own, name).toMatch(name === 'secrets' ? /^0:0$/ : /^[1-9]/);
    }
  });

  test('each replica has a valid configuration and an address of its own that the other and nginx know', async () => {
    const port = /^EXPOSE (\d+)$/m.exec(await dockerfile())?.[1];
    const listen = /MILLPOND_LISTEN=(\S+)/.exec(await dockerfile())?.[1] ?? '';
    const nginx = await readFile(join(root, 'deploy', 'nginx', 'nginx.conf'), 'utf8');
    for (const name of ['millpond-1', 'millpond-2']) {
      const { environment = {}, volumes = [] } = await serviceOf(name);
      const [file = '', target] = volumes.find((volume) => volume.includes('millpond.yaml'))?.split(':') ?? [];
      // The folder that the image looks for it in.
      expect(target).toBe(`${/^WORKDIR (\/etc\S+)$/m.exec(await dockerfile())?.[1]}/millpond.yaml`);
      const { config } = await loadConfig({
        flags: { config: file },
        environment: { ...environment, MILLPOND_LISTEN: listen },
        workingDirectory: root,
      });
      expect(config).toMatchObject({
        cluster: { advertise: `http://${name}:${port}`, secretFile: '/run/secrets/millpond/cluster-secret' },
        redis: {
          url: { hosts: [{ host: 'redis', port: 6379 }] },
          passwordFile: '/run/secrets/millpond/redis-password',
        },
      });
      expect(volumes).toContain('secrets:/run/secrets/millpond:ro');
      expect(nginx).toContain(`server ${name}:${port} `);
    }
  });
});

describeWith(['docker-compose'], 'docker-compose.yml, as Compose reads it', () => {
  test('is valid', async () => {
    const services = await run('docker-compose', ['--file', join(root, 'docker-compose.yml'), 'config', '--services']);
    expect(services.trim().split('\n').toSorted()).toEqual(['millpond-1', 'millpond-2', 'nginx', 'redis', 'secrets']);
  });
});

/** Runs the script as its container does, for users that may be given the files here. */
async function makeSecrets(folder: TemporaryDirectory): Promise<Record<string, string>> {
  const own = `${process.getuid?.()}:${process.getgid?.()}`;
  await run('sh', [secretsScript, folder.path, own, own]);
  const names = await readdir(folder.path);
  const read = async (name: string) => [name, await readFile(join(folder.path, name), 'utf8')] as const;
  return Object.fromEntries(await Promise.all(names.map(read)));
}

describe('the secrets that the containers share', () => {
  test('are made once, at random, and for their readers alone', async () => {
    await using first = await temporaryDirectory('secrets');
    await using second = await temporaryDirectory('secrets');
    const made = await makeSecrets(first);
    expect(Object.keys(made).toSorted()).toEqual(['cluster-secret', 'redis-password', 'redis.conf']);
    expect(made['cluster-secret']).toMatch(/^[0-9a-f]{64}$/);
    expect(made['redis.conf']).toContain(`requirepass ${made['redis-password']}\n`);
    expect(await makeSecrets(first)).toEqual(made);
    const others = await makeSecrets(second);
    for (const name of Object.keys(made)) {
      expect(others[name]).not.toBe(made[name]);
      expect((await stat(join(first.path, name))).mode & 0o777).toBe(0o600);
    }
  });

  test('are for the users that the containers run as', async () => {
    const { entrypoint = [] } = await serviceOf('secrets');
    const [, script, , millpond, redis] = entrypoint;
    expect((await serviceOf('secrets')).volumes).toContain(`./deploy/compose/make-secrets.sh:${script}:ro`);
    expect(millpond).toBe(/^USER (\S+)$/m.exec(await dockerfile())?.[1]);
    expect(redis).toBe((await serviceOf('redis')).user);
  });
});

describeWith(['redis-server', 'redis-cli'], 'the Redis of docker-compose.yml', () => {
  test('takes its settings, and refuses requests without the password', async () => {
    await using folder = await temporaryDirectory('secrets');
    const made = await makeSecrets(folder);
    const { entrypoint: [program = '', file = ''] = [] } = await serviceOf('redis');
    const socket = join(folder.path, 'sock');
    const { process: redis } = await startProcess(toolPath(program), {
      args: [join(folder.path, file.split('/').at(-1) ?? ''), '--port', '0', '--unixsocket', socket],
      cwd: folder.path,
      ready: /ready to accept connections/i,
    });
    await using _ = redis;
    expect(await run('redis-cli', ['-s', socket, 'get', 'a'])).toContain('NOAUTH');
    const withPassword = ['-s', socket, '--no-auth-warning', '-a', made['redis-password'] ?? ''];
    expect((await run('redis-cli', [...withPassword, 'ping'])).trim()).toBe('PONG');
  });
});
