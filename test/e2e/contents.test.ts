import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { get, json, type Reply } from '../support/client.ts';
import { startContainerd } from '../support/containerd.ts';
import { fallbackTag } from '../support/contents.ts';
import {
  type LocalManifest,
  localArtifact,
  localBlob,
  localChart,
  localImage,
  localIndex,
  localReferrers,
  pushImage,
} from '../support/images.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { run, showOutputOnFailure } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { type TemporaryDirectory, temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { type Site, startSite } from './site.ts';

interface Content {
  readonly what: string;
  readonly repository: string;
  readonly tag: string;
  readonly manifest: LocalManifest;
}

const sbomType = 'application/vnd.test.sbom';
const signatureType = 'application/vnd.test.signature';
const artifact = localArtifact({ artifactType: 'application/vnd.test.thing', layers: [localBlob('a thing')] });
const referrers = [sbomType, signatureType].map((artifactType) => ({
  artifactType,
  manifest: localArtifact({ artifactType, subject: artifact, layers: [localBlob(`${artifactType} of the thing`)] }),
}));

const contents: readonly Content[] = [
  { what: 'an OCI index', repository: 'library/multi', tag: 'v1', manifest: localIndex('multi', ['amd64', 'arm64']) },
  {
    what: 'a manifest list',
    repository: 'library/list',
    tag: 'v1',
    manifest: localIndex('list', ['amd64', 'arm64'], 'docker'),
  },
  {
    what: 'a schema 2 image',
    repository: 'library/two',
    tag: 'v1',
    manifest: localImage({ label: 'two', mediaTypes: 'docker' }),
  },
  {
    what: 'zstd layers',
    repository: 'library/zstd',
    tag: 'v1',
    manifest: localImage({ label: 'z', compression: 'zstd' }),
  },
  {
    what: 'a five-part name',
    repository: 'one/two/three/four/five',
    tag: 'v1',
    manifest: localImage({ label: 'five' }),
  },
  { what: 'a Helm chart', repository: 'charts/hello', tag: '1.0.0', manifest: localChart('hello') },
  { what: 'an artifact', repository: 'artifacts/demo', tag: 'v1', manifest: artifact },
  {
    what: 'the list of referrers under the fallback tag',
    repository: 'artifacts/demo',
    tag: fallbackTag(artifact.digest),
    manifest: localReferrers(referrers),
  },
  {
    what: 'a sha512 blob',
    repository: 'artifacts/wide',
    tag: 'v1',
    manifest: localArtifact({ layers: [localBlob('wide', 'application/octet-stream', 'sha512')] }),
  },
  {
    what: 'an empty blob',
    repository: 'artifacts/empty',
    tag: 'v1',
    manifest: localArtifact({ layers: [localBlob('')] }),
  },
];
const named = (what: string): Content => contents.find((content) => content.what === what)!;

describeWith(['docker-registry'], 'what registries keep', () => {
  let site: Site;
  let directory: TemporaryDirectory;
  beforeAll(async () => {
    site = await startSite();
    directory = await temporaryDirectory('contents');
    for (const { repository, tag, manifest } of contents) {
      await pushImage(site.docker.registry.origin, repository, tag, manifest);
    }
  });
  afterAll(async () => {
    await site?.[Symbol.asyncDispose]();
    await directory?.[Symbol.asyncDispose]();
  });
  showOutputOnFailure(() => [site]);

  describeWith([], 'over plain HTTP', () => {
    test.each(contents)('$what passes unchanged, the second time from disk', async ({ repository, tag, manifest }) => {
      const accept = { accept: manifest.mediaType };
      for (const turn of ['first', 'second']) {
        site.docker.proxy.requests.length = 0;
        const reply = await get(`${site.mirror.origin}/v2/${repository}/manifests/${tag}?ns=docker.io`, {
          headers: accept,
        });
        expectManifest(reply, manifest);
        for (const each of [manifest, ...manifest.manifests]) await expectWhole(repository, each);
        expect(site.docker.proxy.contentRequests().length > 0).toBe(turn === 'first');
      }
    });

    test('the referrers API answers from the fallback tag of a registry without it', async () => {
      const url = `${site.mirror.origin}/v2/artifacts/demo/referrers/${artifact.digest}`;
      const all = await get(`${url}?ns=docker.io`);
      expect(all).toMatchObject({
        status: 200,
        headers: { 'content-type': 'application/vnd.oci.image.index.v1+json' },
      });
      expect(digestsIn(all)).toEqual(referrers.map(({ manifest }) => manifest.digest));
      const filtered = await get(`${url}?ns=docker.io&artifactType=${encodeURIComponent(sbomType)}`);
      expect(filtered.headers['oci-filters-applied']).toBe('artifactType');
      expect(digestsIn(filtered)).toEqual([referrers[0]?.manifest.digest]);
    });

    async function expectWhole(repository: string, manifest: LocalManifest): Promise<void> {
      const base = `${site.mirror.origin}/v2/${repository}`;
      const accept = { accept: manifest.mediaType };
      expectManifest(await get(`${base}/manifests/${manifest.digest}?ns=docker.io`, { headers: accept }), manifest);
      for (const blob of manifest.blobs) {
        const reply = await get(`${base}/blobs/${blob.digest}?ns=docker.io`);
        expect(reply).toMatchObject({ status: 200, complete: true });
        expect(reply.body.equals(blob.bytes)).toBe(true);
        expect(reply.headers['docker-content-digest']).toBe(blob.digest);
        expect(reply.headers['content-length']).toBe(String(blob.size));
        expect(reply.headers['content-encoding']).toBeUndefined();
      }
    }
  });

  describeWith(['skopeo'], 'by skopeo', () => {
    const images = contents.slice(0, 5);
    test.each(images)('$what is copied whole', async ({ repository, tag, manifest }) => {
      const target = join(directory.path, `skopeo-${manifest.digest.slice(7, 19)}`);
      const source = `docker://${site.mirror.host}/docker.io/${repository}:${tag}`;
      await run('skopeo', ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false', source, `dir:${target}`], {
        env: { HOME: directory.path, TMPDIR: directory.path },
      });
      const copied = await Promise.all((await readdir(target)).map(async (name) => await readFile(join(target, name))));
      const digests = new Set(copied.map((bytes) => localBlob(bytes).digest));
      const wanted = [manifest, ...manifest.manifests].flatMap((each) => [each, ...each.blobs]);
      expect(wanted.filter(({ digest }) => !digests.has(digest))).toEqual([]);
    });
  });

  describeWith(['root', 'containerd', 'ctr'], 'by containerd', () => {
    test('images of every kind are pulled and unpacked', async () => {
      await using containerd = await startContainerd();
      const hosts = await containerd.hostsDirectory('hosts', {
        'docker.io': `server = "http://127.0.0.1:1"\n[host."${site.mirror.origin}"]\n  capabilities = ["pull", "resolve"]\n`,
      });
      for (const { repository, tag, manifest } of contents.slice(0, 5)) {
        const reference = `docker.io/${repository}:${tag}`;
        await containerd.ctr('images', 'pull', '--hosts-dir', hosts, '--snapshotter', 'native', reference);
        expect(await containerd.ctr('images', 'ls', `name==${reference}`)).toContain(manifest.digest);
      }
    });
  });

  describeWith(['oras'], 'by oras', () => {
    test.each(['an artifact', 'a Helm chart', 'an empty blob', 'a sha512 blob'])('%s is pulled', async (what) => {
      const { repository, tag, manifest } = named(what);
      const target = join(directory.path, `oras-${manifest.digest.slice(7, 19)}`);
      await oras('pull', '--plain-http', `${site.mirror.host}/docker.io/${repository}:${tag}`, '--output', target);
      const pulled = await readFile(join(target, 'file-0'));
      expect(pulled.equals(manifest.blobs.at(-1)!.bytes)).toBe(true);
    });

    test('referrers are discovered', async () => {
      const { repository, tag } = named('an artifact');
      const reference = `${site.mirror.host}/docker.io/${repository}:${tag}`;
      const found = await oras('discover', '--plain-http', '--format', 'json', reference);
      for (const { manifest } of referrers) expect(found).toContain(manifest.digest);
    });
  });

  async function oras(...args: readonly string[]): Promise<string> {
    return run('oras', args, { env: { HOME: directory.path, DOCKER_CONFIG: directory.path }, cwd: directory.path });
  }
});

describeWith(['oras'], 'a registry with the referrers API', () => {
  test('its referrers are discovered by oras', async () => {
    await using upstream = await startRegistry();
    await using directory = await temporaryDirectory('referrers');
    await using mirror: MillpondProcess = await startMillpond({
      upstreams: { 'reg.test': { urls: [upstream.origin] } },
    });
    const image = upstream.addImage('demo', 'v1');
    const signature = upstream.addReferrer('demo', image, { artifactType: signatureType });
    await writeFile(join(directory.path, 'config.json'), '{}');
    const args = ['discover', '--plain-http', '--format', 'json', `${mirror.host}/reg.test/demo:v1`];
    const found = await run('oras', args, { env: { HOME: directory.path, DOCKER_CONFIG: directory.path } });
    expect(found).toContain(signature.digest);
    expect(upstream.requestsFor(/\/referrers\//).map(({ status }) => status)).toContain(200);
  });
});

function expectManifest(reply: Reply, manifest: LocalManifest): void {
  expect(reply).toMatchObject({ status: 200, complete: true });
  expect(reply.body.equals(manifest.bytes)).toBe(true);
  expect(reply.headers['content-type']).toBe(manifest.mediaType);
  expect(reply.headers['docker-content-digest']).toBe(manifest.digest);
}

function digestsIn(reply: Reply): string[] {
  return json<{ manifests: { digest: string }[] }>(reply).manifests.map(({ digest }) => digest);
}
