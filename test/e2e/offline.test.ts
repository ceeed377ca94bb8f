import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { get, json } from '../support/client.ts';
import { runCommand } from '../support/commands.ts';
import { localArtifact, localIndex } from '../support/images.ts';
import { fileOf, layoutOf, named, writeTar } from '../support/layouts.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const probe = join(import.meta.dirname, '../support/connect-probe.ts');
const index = localIndex('offline', ['amd64', 'arm64']);
const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: index });
const signature = localArtifact({ artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' });
const signatureTag = `${index.digest.replace(':', '-')}.sig`;

/** An archive of an image for one platform of two, with its attachments. */
async function writeArchive(path: string): Promise<void> {
  const files = layoutOf([
    { manifest: index, annotations: named('reg.example/app:1') },
    { manifest: sbom, annotations: { 'io.millpond.attachment': `reg.example/app@${sbom.digest}` } },
    { manifest: signature, annotations: { 'io.millpond.attachment': `reg.example/app:${signatureTag}` } },
  ]);
  const arm64 = index.manifests[1]!;
  for (const blob of [arm64, ...arm64.blobs]) delete files[fileOf(blob)];
  await writeTar(path, files);
}

describe('offline', () => {
  // A name that has to be looked up, a registry that asks for tokens, and credentials for it.
  test.each([true, false])('%s: whether anybody is contacted for whatever clients ask', async (offline) => {
    await using directory = await temporaryDirectory('offline');
    await using registry = await startRegistry({ token: {} });
    const auth = { username: 'me', password: 'secret' };
    const config = {
      upstreams: {
        'reg.example': { urls: [registry.origin, `http://localhost:${new URL(registry.origin).port}`], auth },
      },
      cache: { dir: join(directory.path, 'data'), tagTtl: '0s', staleIfError: '0s', negativeTtl: '0s' },
      offline,
    };
    const probeFile = join(directory.path, 'probe');
    const env = { NODE_OPTIONS: `--import ${probe}`, CONNECT_PROBE_FILE: probeFile };
    await using mirror = await startMillpond(config, { directory: directory.path, env });
    await writeArchive(join(directory.path, 'a.tar'));
    const imported = await runCommand(['import', join(directory.path, 'a.tar')], directory.path);
    expect(imported).toMatchObject({ code: 0, stderr: '' });
    const ask = (path: string) => get(`${mirror.origin}/v2/${path}?ns=reg.example`);
    const [amd64, arm64] = index.manifests;
    const statuses: Record<string, number> = {};
    for (const path of [
      'app/manifests/1',
      `app/manifests/${index.digest}`,
      `app/manifests/${amd64!.digest}`,
      ...amd64!.blobs.map(({ digest }) => `app/blobs/${digest}`),
      'app/tags/list',
      `app/referrers/${index.digest}`,
      `app/referrers/${amd64!.digest}`,
      `app/manifests/${signatureTag}`,
      `app/manifests/${sbom.digest}`,
    ]) {
      statuses[path] = (await ask(path)).status;
    }
    const others = [`app/manifests/${arm64!.digest}`, 'app/manifests/2', `app/blobs/${arm64!.blobs[1]!.digest}`];
    others.push('other/manifests/1', 'other/tags/list', `other/blobs/${amd64!.blobs[1]!.digest}`);
    const refusals: [number, boolean][] = [];
    for (const path of others) {
      const { status, body } = await ask(path);
      refusals.push([status, body.toString().includes('offline')]);
    }
    const contacted = await readFile(probeFile, 'utf8').catch(() => '');
    const requests = registry.requests.length + registry.tokenServer.requests.length;
    if (!offline) {
      // The probe sees what there is to see.
      expect(contacted).toContain('TCPCONNECTWRAP');
      expect(contacted).toContain('GETADDRINFOREQWRAP');
      expect(requests).toBeGreaterThan(0);
      return;
    }
    expect(contacted).toBe('');
    expect(requests).toBe(0);
    expect(Object.entries(statuses).filter(([, status]) => status !== 200)).toEqual([]);
    expect(refusals).toEqual(others.map(() => [404, true]));
    expect(json(await ask('app/tags/list'))).toEqual({ name: 'app', tags: ['1', signatureTag] });
    expect(json(await ask(`app/referrers/${index.digest}`))).toMatchObject({
      manifests: [{ digest: sbom.digest, artifactType: 'application/spdx+json' }],
    });
    expect(json(await ask(`app/referrers/${amd64!.digest}`))).toMatchObject({ manifests: [] });
  });
});
