import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';

/** Changes the configuration file and tells the mirror; resolves when it has said what came of it. */
async function change(mirror: MillpondProcess, edit: (config: Record<string, unknown>) => unknown, said: RegExp) {
  const file = join(mirror.directory, 'millpond.yaml');
  const edited = edit(JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>);
  await writeFile(file, typeof edited === 'string' ? edited : JSON.stringify(edited));
  mirror.process.kill('SIGHUP');
  await mirror.process.untilOutput(said);
}

test('SIGHUP puts upstreams in force for new requests; a transfer under way ends with those it began with', async () => {
  await using old = await startRegistry();
  await using other = await startRegistry();
  await using mirror = await startMillpond({ upstreams: { 'docker.io': { urls: [old.origin] } } });
  const blob = old.addBlob({ size: 2_000_000, seed: 1 });
  const stalled = old.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
  const pull = get(`${mirror.origin}/v2/library/app/blobs/${blob.digest}`);
  await stalled.reached;
  const image = other.addImage('library/app', 'v1');
  await change(
    mirror,
    (config) => ({ ...config, listen: '127.0.0.1:1', upstreams: { 'docker.io': { urls: [other.origin] } } }),
    /configuration reloaded/,
  );
  expect(mirror.process.output).toContain('"key":"listen","msg":"changed configuration key needs a restart"');
  expect((await get(`${mirror.origin}/v2/library/app/manifests/v1`)).sha256).toBe(image.digest);
  stalled.release();
  expect(await pull).toMatchObject({ complete: true, sha256: blob.digest });
});

test('SIGHUP with a file that cannot be used changes nothing and logs each problem', async () => {
  await using upstream = await startRegistry();
  await using mirror = await startMillpond({ upstreams: { 'docker.io': { urls: [upstream.origin] } } });
  await change(mirror, () => 'ofline: true\ncache: { tagTtl: soon }\n', /tagTtl: found/);
  expect(mirror.process.output).toMatch(/"problem":".+millpond\.yaml:1: unknown key \\"ofline\\"/);
  const image = upstream.addImage('library/app', 'v1');
  expect((await get(`${mirror.origin}/v2/library/app/manifests/v1`)).sha256).toBe(image.digest);
});

test('SIGHUP changes times and the level of the log, and an upstream that is no longer in the table is gone', async () => {
  await using upstream = await startRegistry();
  const quay = { urls: [upstream.origin] };
  await using mirror = await startMillpond({ upstreams: { 'docker.io': quay, 'quay.io': quay } });
  upstream.addImage('library/app', 'v1');
  await get(`${mirror.origin}/v2/library/app/manifests/v1`);
  await change(
    mirror,
    (config) => ({ ...config, upstreams: { 'docker.io': { ...quay, tagTtl: 0 } }, log: { level: 'debug' } }),
    /configuration reloaded/,
  );
  const answer = await get(`${mirror.origin}/v2/library/app/manifests/v1`);
  expect(answer.headers['cache-status']).toBe('millpond; fwd=stale; detail=revalidated');
  expect((await get(`${mirror.origin}/v2/quay.io/library/app/manifests/v1`)).status).toBe(404);
});
