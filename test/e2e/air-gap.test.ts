import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCommand } from '../support/commands.ts';
import { type Containerd, startContainerd } from '../support/containerd.ts';
import { fallbackTag } from '../support/contents.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import {
  type LocalManifest,
  localArtifact,
  localBlob,
  localChart,
  localReferrers,
  pushImage,
} from '../support/images.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { type NetworkNamespace, networkNamespace } from '../support/network-namespace.ts';
import { showOutputOnFailure } from '../support/processes.ts';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, findTool } from '../support/tools.ts';
import { packageImage, packageIndex, packageTar } from './air-gap/package-images.ts';

const program = fileURLToPath(new URL('../../bin/millpond', import.meta.url));

/** An image at its registry, with its attachments. */
interface Wanted {
  readonly registry: 'docker.io' | 'quay.io' | 'ghcr.io';
  readonly repository: string;
  readonly tag: string;
  manifest: LocalManifest;
  /** More tags of its repository that belong to it. */
  readonly beside?: Readonly<Record<string, LocalManifest>>;
  /** What refers to it, and what refers to that, and so on. */
  readonly referrers?: readonly LocalManifest[];
  /** Whether it is something else than an image that can be run. */
  readonly isArtifact?: true;
}

const nameOf = ({ registry, repository, tag }: Wanted): string => `${registry}/${repository}:${tag}`;

async function makeImages(): Promise<{ images: Wanted[]; changed: Record<string, LocalManifest> }> {
  const names = ['bash', 'grep', 'sed', 'gzip', 'findutils', 'perl-base', 'hostname', 'tar'] as const;
  const tars = await Promise.all(names.map(packageTar));
  const [bash, grep, sed, gzip, findutils, perl, hostname, tar] = tars as [
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
    Buffer,
  ];
  const signed = packageImage({ layers: [gzip] });
  const listed = packageImage({ layers: [hostname] });
  const attested = packageImage({ layers: [hostname, gzip] });
  const cosign = localArtifact({
    layers: [localBlob('a signature', 'application/vnd.dev.cosign.simplesigning.v1+json')],
  });
  const contentsOf = (subject: LocalManifest) => {
    const artifactType = 'application/spdx+json';
    return localArtifact({ artifactType, subject, layers: [localBlob(`what is in ${subject.digest}`)] });
  };
  const [listedContents, attestedContents] = [contentsOf(listed), contentsOf(attested)];
  const signature = localArtifact({ artifactType: 'application/vnd.test.signature', subject: attestedContents });
  const images: Wanted[] = [
    { registry: 'docker.io', repository: 'library/base', tag: '12', manifest: packageImage({ layers: [bash] }) },
    { registry: 'docker.io', repository: 'library/app', tag: '1', manifest: packageImage({ layers: [bash, grep] }) },
    { registry: 'docker.io', repository: 'library/tool', tag: '1', manifest: packageImage({ layers: [bash, sed] }) },
    {
      registry: 'docker.io',
      repository: 'library/multi',
      tag: '1',
      manifest: packageIndex({ amd64: [grep], arm64: [sed] }),
    },
    {
      registry: 'docker.io',
      repository: 'library/list',
      tag: '1',
      manifest: packageIndex({ amd64: [sed], arm64: [grep] }, 'docker'),
    },
    {
      registry: 'docker.io',
      repository: 'library/two',
      tag: '1',
      manifest: packageImage({ layers: [findutils], mediaTypes: 'docker' }),
    },
    {
      registry: 'quay.io',
      repository: 'org/zstd',
      tag: '1',
      manifest: packageImage({ layers: [findutils], compression: 'zstd' }),
    },
    {
      registry: 'quay.io',
      repository: 'one/two/three/four/five',
      tag: '1',
      manifest: packageImage({ layers: [hostname, sed] }),
    },
    {
      registry: 'quay.io',
      repository: 'org/signed',
      tag: '1',
      manifest: signed,
      beside: { [`${fallbackTag(signed.digest)}.sig`]: cosign },
    },
    {
      registry: 'quay.io',
      repository: 'org/listed',
      tag: '1',
      manifest: listed,
      beside: {
        [fallbackTag(listed.digest)]: localReferrers([
          { manifest: listedContents, artifactType: 'application/spdx+json' },
        ]),
      },
      referrers: [listedContents],
    },
    {
      registry: 'ghcr.io',
      repository: 'org/attested',
      tag: '1',
      manifest: attested,
      referrers: [attestedContents, signature],
    },
    { registry: 'ghcr.io', repository: 'charts/hello', tag: '1.0.0', manifest: localChart('hello'), isArtifact: true },
  ];
  const changed = {
    'docker.io/library/app:1': packageImage({ layers: [bash, perl] }),
    'docker.io/library/multi:1': packageIndex({ amd64: [grep, perl], arm64: [sed, tar] }),
  };
  return { images, changed };
}

/** Everything that a manifest and what it names consists of. */
function partsOf(manifest: LocalManifest): readonly { readonly digest: string; readonly size: number }[] {
  return [manifest, ...manifest.blobs, ...manifest.manifests.flatMap(partsOf)];
}

function add(
  registry: ScriptedRegistry,
  { repository, tag }: { repository: string; tag?: string },
  manifest: LocalManifest,
): void {
  for (const child of manifest.manifests) add(registry, { repository }, child);
  for (const { bytes, mediaType } of manifest.blobs) registry.addBlob(bytes, { repository, mediaType });
  registry.addManifest(repository, tag, manifest.bytes, manifest.mediaType);
}

describeWith(['root', 'ip', 'dpkg', 'docker-registry', 'skopeo'], 'an air-gapped site', () => {
  const owned = new AsyncDisposableStack();
  let images: Wanted[];
  let changed: Record<string, LocalManifest>;
  let registries: { readonly 'docker.io': DockerRegistry; readonly 'quay.io': DockerRegistry };
  let scripted: ScriptedRegistry;
  let outside: string;
  let inside: string;
  let network: NetworkNamespace;
  let mirror: MillpondProcess;
  let containerd: Containerd | undefined;
  showOutputOnFailure(() => [mirror?.process]);

  async function push(wanted: Wanted): Promise<void> {
    const { registry, repository, tag, manifest, beside = {}, referrers = [] } = wanted;
    if (registry === 'ghcr.io') {
      add(scripted, { repository, tag }, manifest);
      for (const referrer of referrers) add(scripted, { repository }, referrer);
      return;
    }
    const { origin } = registries[registry];
    await pushImage(origin, repository, tag, manifest);
    for (const referrer of referrers) await pushImage(origin, repository, referrer.digest, referrer);
    for (const [more, one] of Object.entries(beside)) await pushImage(origin, repository, more, one);
  }

  async function millpond(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await runCommand(args, outside);
    expect([code, stderr]).toEqual([0, '']);
    return stdout;
  }

  /** What is on the closed side. */
  const client = (name: string, ...args: readonly string[]): Promise<string> =>
    network.run(name, args, { env: { HOME: inside, TMPDIR: inside, DOCKER_CONFIG: inside }, cwd: inside });

  beforeAll(async () => {
    ({ images, changed } = await makeImages());
    outside = owned.use(await temporaryDirectory('o')).path;
    inside = owned.use(await temporaryDirectory('i')).path;
    registries = {
      'docker.io': owned.use(await startDockerRegistry()),
      'quay.io': owned.use(await startDockerRegistry()),
    };
    scripted = owned.use(await startRegistry());
    for (const wanted of images) await push(wanted);
    const origins = {
      'docker.io': registries['docker.io'].origin,
      'quay.io': registries['quay.io'].origin,
      'ghcr.io': scripted.origin,
    };
    const upstreams = Object.fromEntries(
      Object.entries(origins).map(([name, url]) => [name, { urls: [url], tagTtl: '0s' }]),
    );
    await writeFile(join(outside, 'millpond.yaml'), JSON.stringify({ upstreams }));
    await writeFile(join(outside, 'images.yaml'), JSON.stringify(images.map(nameOf)));
    network = owned.use(await networkNamespace());
    mirror = owned.use(
      await startMillpond(
        { offline: true, upstreams: { 'docker.io': {}, 'quay.io': {}, 'ghcr.io': {} } },
        { directory: inside, through: network.through },
      ),
    );
  });
  afterAll(() => owned.disposeAsync());

  test('is supplied with one archive, and kept up with one that holds what is new', async () => {
    const names = images.map(nameOf);
    await millpond('fetch', '--file', 'images.yaml');
    await millpond('export', '--output', 'full.tar', ...names);
    const had = new Set(images.flatMap(({ manifest }) => partsOf(manifest)).map(({ digest }) => digest));
    const isNew = Object.values(changed)
      .flatMap(partsOf)
      .filter(({ digest }) => !had.has(digest));
    const newBytes = [...new Map(isNew.map(({ digest, size }) => [digest, size])).values()].reduce(
      (sum, size) => sum + size,
      0,
    );
    await client(program, 'import', join(outside, 'full.tar'));
    for (const wanted of images) {
      expect(await digestInside(nameOf(wanted))).toBe(wanted.manifest.digest);
      const next = changed[nameOf(wanted)];
      if (next) await push(Object.assign(wanted, { manifest: next }));
    }
    await millpond('fetch', '--file', 'images.yaml');
    await millpond('export', '--output', 'delta.tar', '--since', join(outside, 'full.tar'), ...names);
    const { size } = await stat(join(outside, 'delta.tar'));
    expect(newBytes).toBeGreaterThan(1_000_000);
    expect(size / newBytes).toBeLessThanOrEqual(1.02);
    await client(program, 'import', join(outside, 'delta.tar'));
    for (const wanted of images) expect(await digestInside(nameOf(wanted))).toBe(wanted.manifest.digest);
  });

  /** The digest of a name's manifest, as the mirror on the closed side gives it. */
  async function digestInside(name: string): Promise<string> {
    const raw = await client(
      'skopeo',
      '--insecure-policy',
      'inspect',
      '--raw',
      '--tls-verify=false',
      `docker://${mirror.host}/${name}`,
    );
    return localBlob(raw).digest;
  }

  test('skopeo copies every image with all its platforms, byte for byte', async () => {
    for (const [index, { manifest, ...wanted }] of images.entries()) {
      const target = join(inside, `skopeo-${index}`);
      const source = `docker://${mirror.host}/${nameOf({ manifest, ...wanted })}`;
      await client('skopeo', '--insecure-policy', 'copy', '--all', '--src-tls-verify=false', source, `dir:${target}`);
      const copied = await Promise.all((await readdir(target)).map((file) => readFile(join(target, file))));
      const digests = new Set<string>(copied.map((bytes) => localBlob(bytes).digest));
      const lacking = partsOf(manifest).filter(({ digest }) => !digests.has(digest));
      expect(lacking.map(({ digest }) => digest)).toEqual([]);
    }
  });

  test('signatures and referrers are there, and theirs', async () => {
    for (const { registry, repository, beside = {}, referrers = [] } of images) {
      for (const [tag, manifest] of Object.entries(beside)) {
        expect(await digestInside(`${registry}/${repository}:${tag}`)).toBe(manifest.digest);
      }
      for (const referrer of referrers) {
        expect(await digestInside(`${registry}/${repository}@${referrer.digest}`)).toBe(referrer.digest);
      }
    }
  });

  test.skipIf(findTool('oras') === undefined)(
    'oras pulls the chart and discovers what refers to an image',
    async () => {
      for (const { manifest, ...wanted } of images) {
        const name = `${mirror.host}/${nameOf({ manifest, ...wanted })}`;
        if (wanted.isArtifact) {
          await client('oras', 'pull', '--plain-http', name, '--output', join(inside, 'chart'));
          const pulled = await readFile(join(inside, 'chart', 'file-0'));
          expect(pulled.equals(manifest.blobs.at(-1)!.bytes)).toBe(true);
        }
        if (wanted.referrers === undefined) continue;
        // Each refers to the one before it.
        const repository = name.slice(0, name.lastIndexOf(':'));
        for (const [index, { digest }] of wanted.referrers.entries()) {
          const subject = index === 0 ? name : `${repository}@${wanted.referrers[index - 1]!.digest}`;
          expect(await client('oras', 'discover', '--plain-http', '--format', 'json', subject)).toContain(digest);
        }
      }
    },
  );

  test.skipIf(findTool('ctr') === undefined)('ctr pulls every image', async () => {
    containerd = owned.use(await startContainerd({ through: network.through }));
    const hosts = `server = "http://127.0.0.1:1"\n\n[host."${mirror.origin}"]\n  capabilities = ["pull", "resolve"]\n`;
    const directory = await containerd.hostsDirectory('hosts', { _default: hosts });
    for (const wanted of images.filter(({ isArtifact }) => !isArtifact)) {
      await containerd.ctr('images', 'pull', '--hosts-dir', directory, '--snapshotter', 'native', nameOf(wanted));
      const listed = await containerd.ctr('images', 'ls', `name==${nameOf(wanted)}`);
      expect(/sha256:[0-9a-f]{64}/.exec(listed)?.[0]).toBe(wanted.manifest.digest);
    }
  });

  test.skipIf(findTool('podman') === undefined)('podman pulls every image', async () => {
    const file = join(inside, 'registries.conf');
    const tables = ['docker.io', 'quay.io', 'ghcr.io'].map(
      (name) =>
        `[[registry]]\nprefix = "${name}"\nlocation = "127.0.0.1:1"\ninsecure = true\n[[registry.mirror]]\nlocation = "${mirror.host}/${name}"\ninsecure = true\n`,
    );
    await writeFile(file, tables.join('\n'));
    // Podman takes a run root of at most 50 characters.
    const own = ['--root', join(inside, 'p'), '--runroot', join(inside, 'r'), '--storage-driver', 'vfs'];
    const podman = (...args: readonly string[]): Promise<string> =>
      network.run('podman', [...own, '--cgroup-manager', 'cgroupfs', '--events-backend', 'file', ...args], {
        env: { CONTAINERS_REGISTRIES_CONF: file, HOME: inside, TMPDIR: inside },
      });
    for (const wanted of images.filter(({ isArtifact }) => !isArtifact)) {
      await podman('pull', '--quiet', nameOf(wanted));
      const inspected = await podman('image', 'inspect', '--format', '{{.RepoDigests}} {{.Digest}}', nameOf(wanted));
      expect(inspected).toContain(wanted.manifest.digest);
    }
  });
});
