import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../support/processes.ts';
import type { RecordedRequest } from '../support/recorded-request.ts';
import { type RegistryOptions, type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';

// What a client can pull from a registry directly, it can pull through the mirror. `MILLPOND_CLIENT_MATRIX=all npx vitest run
// test/e2e/client-matrix.test.ts` tries all registries with all clients.

const isAll = process.env['MILLPOND_CLIENT_MATRIX'] === 'all';
const repository = 'library/app';
const tag = 'v1';

interface Client {
  readonly name: string;
  readonly requirements: readonly string[];
  /** Pulls an image by tag with all that it consists of. @param place host, and where there is one the path before the repository */
  readonly pull: (place: string, folder: string) => Promise<unknown>;
}

const skopeo: Client = {
  name: 'skopeo',
  requirements: ['skopeo'],
  async pull(place, folder) {
    await mkdir(folder);
    const options = ['--insecure-policy', 'copy', '--quiet', '--all', '--src-tls-verify=false'];
    await run('skopeo', [...options, `docker://${place}/${repository}:${tag}`, `dir:${join(folder, 'image')}`], {
      env: { HOME: folder, TMPDIR: folder },
    });
  },
};
const oras: Client = {
  name: 'oras',
  requirements: ['oras'],
  async pull(place, folder) {
    await mkdir(folder);
    const target = ['--to-oci-layout', `${join(folder, 'image')}:${tag}`];
    await run(toolPath('oras'), ['copy', '--from-plain-http', `${place}/${repository}:${tag}`, ...target], {
      env: { HOME: folder },
    });
  },
};
const podman: Client = {
  name: 'podman',
  requirements: ['root', 'podman'],
  async pull(place, folder) {
    await mkdir(folder);
    const own = ['--root', join(folder, 'r'), '--runroot', join(folder, 'u'), '--storage-driver', 'vfs'];
    const common = [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
    await run('podman', [...common, 'pull', '--quiet', '--tls-verify=false', `${place}/${repository}:${tag}`], {
      env: { HOME: folder, TMPDIR: folder },
    });
  },
};

interface OddRegistry {
  readonly name: string;
  readonly options?: RegistryOptions;
  readonly prepare?: (registry: ScriptedRegistry) => unknown;
  /** Left out of the ordinary run. */
  readonly isLong?: boolean;
}

const isHead = ({ method }: RecordedRequest): boolean => method === 'HEAD';
const isBlob = ({ path }: RecordedRequest): boolean => path.includes('/blobs/');
const isBlobGet = (request: RecordedRequest): boolean => isBlob(request) && !isHead(request);
const isManifest = ({ path }: RecordedRequest): boolean => path.includes('/manifests/');
const headers = (given: Readonly<Record<string, string | undefined>>) => ({ kind: 'headers', headers: given }) as const;

const registries: readonly OddRegistry[] = [
  { name: 'that behaves' },
  { name: 'with tokens', options: { token: {} } },
  ...[400, 403, 404, 405, 500].map((status) => ({
    name: `that answers a HEAD with ${status}`,
    prepare: (registry: ScriptedRegistry) => registry.fault(isHead, { kind: 'status', status }),
    isLong: status !== 404,
  })),
  {
    name: 'whose manifests are application/json',
    prepare: (registry) => registry.fault(isManifest, headers({ 'Content-Type': 'application/json' })),
  },
  {
    name: 'without Docker-Content-Digest',
    prepare: (registry) => registry.fault(isManifest, headers({ 'Docker-Content-Digest': undefined })),
  },
  ...['binary', 'aws-chunked'].map((label) => ({
    name: `that labels blobs ${label}`,
    prepare: (registry: ScriptedRegistry) => registry.fault(isBlobGet, headers({ 'Content-Encoding': label })),
    isLong: label !== 'binary',
  })),
  ...[301, 302, 303, 307, 308].map((status) => ({
    name: `that redirects blobs with ${status}`,
    prepare: (registry: ScriptedRegistry) =>
      registry.fault(isBlobGet, { kind: 'redirect', status: status as 301 | 302 | 303 | 307 | 308 }),
    isLong: status !== 307,
  })),
  { name: 'that sends chunks', prepare: (registry) => registry.fault(undefined, { kind: 'chunked' }) },
  {
    name: 'that ignores ranges',
    prepare: (registry) => registry.fault(undefined, { kind: 'ignore-range' }),
    isLong: true,
  },
  ...[500, 502, 503, 504].map((status) => ({
    name: `that answers a blob with ${status} once`,
    prepare: (registry: ScriptedRegistry) => registry.fault(isBlobGet, { kind: 'status', status }, { times: 1 }),
    isLong: true,
  })),
  {
    name: 'that resets the first blob',
    prepare: (registry) => registry.fault(isBlobGet, { kind: 'reset' }, { times: 1 }),
    isLong: true,
  },
  {
    name: 'whose token service answers 503 once',
    options: { token: {} },
    prepare: (registry) => registry.tokenServer.place(undefined, { kind: 'status', status: 503 }, { times: 1 }),
  },
];

for (const client of [skopeo, oras, ...(isAll ? [podman] : [])]) {
  describeWith(client.requirements, `${client.name}, from a registry`, () => {
    const tried = registries.filter(({ isLong = false }) => isAll || !isLong);
    test.each(tried.map((registry) => [registry.name, registry] as const))('%s', async (_, odd) => {
      await using folder = await temporaryDirectory();
      const pullFrom = async (through: 'direct' | 'mirror'): Promise<boolean> => {
        await using registry = await startRegistry(odd.options ?? {});
        registry.addImage(repository, tag);
        await using site = await startTestSite({ upstreams: { 'reg.test': registry } });
        odd.prepare?.(registry);
        const place = through === 'direct' ? registry.host : `${new URL(site.origin).host}/reg.test`;
        try {
          await client.pull(place, join(folder.path, through));
          return true;
        } catch (error) {
          if (through === 'mirror') throw error;
          return false;
        }
      };
      const isPossible = await pullFrom('direct');
      if (isPossible) expect(await pullFrom('mirror')).toBe(true);
      else expect(await pullFrom('mirror').catch(() => 'refused too')).toBeDefined();
    });
  });
}
