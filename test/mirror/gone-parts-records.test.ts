import { expect, test } from 'vitest';
import { GoneParts } from '../../src/mirror/gone-parts.ts';
import { upstreamFact } from '../../src/oci/facts.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { app, digest, Records } from '../store/records.ts';

async function start() {
  const records = await Records.open();
  const changed: string[] = [];
  const now = (): number => records.nowMs;
  const changes = { changed: (fact: string) => changed.push(fact), changedAll: () => undefined, count: () => 0 };
  const gone = new GoneParts({ catalog: records.catalog, now, changes });
  const repository: Repository = repositoryOf({ name: 'docker.io' } as Upstream, 'library/app');
  const isDoubtful = (of: string, checkedAtMs = records.nowMs, at = app): boolean =>
    gone.isDoubtful(at, { digest: digest(of), checkedAtMs });
  return { records, changed, gone, repository, isDoubtful, [Symbol.dispose]: () => records[Symbol.dispose]() };
}

test('a tag is in doubt once a part of its image is gone that was there when it was confirmed', async () => {
  using on = await start();
  on.records.manifest('image', { layers: [digest('layer')] });
  on.records.manifest('index', { children: [digest('image')] });
  on.records.manifest('other', { layers: [digest('other layer')] });
  expect(on.isDoubtful('image')).toBe(false);
  on.gone.note(on.repository, digest('layer'));
  expect(['image', 'index', 'other'].map((name) => on.isDoubtful(name))).toEqual([true, true, false]);
  expect(on.isDoubtful('image', on.records.nowMs + 1)).toBe(false);
  expect(on.isDoubtful('image', on.records.nowMs, 'docker.io/library/other')).toBe(false);
  expect(on.changed).toEqual([upstreamFact('docker.io')]);
  const silent = new GoneParts({ catalog: on.records.catalog, now: () => 5 });
  silent.note(on.repository, digest('layer'));
  expect(silent.isDoubtful(app, { digest: digest('image'), checkedAtMs: 5 })).toBe(true);
});

test('what no manifest of the repository names puts nothing in doubt', async () => {
  using on = await start();
  on.records.manifest('image', { layers: [digest('layer')], repository: 'docker.io/library/other' });
  on.gone.note(on.repository, digest('layer'));
  expect([on.isDoubtful('image'), on.changed]).toEqual([false, []]);
});

test('the last twenty parts of a repository are remembered, each for its last time', async () => {
  using on = await start();
  const layers = Array.from({ length: 21 }, (_, index) => digest(`layer ${index}`));
  layers.forEach((layer, index) => void on.records.manifest(`image ${index}`, { layers: [layer] }));
  const confirmedAtMs = on.records.nowMs;
  for (const layer of layers.slice(0, 20)) on.gone.note(on.repository, layer);
  expect(on.isDoubtful('image 0')).toBe(true);
  // Said again, the first is no longer the oldest.
  on.records.nowMs += 10;
  on.gone.note(on.repository, layers[0]!);
  expect(on.isDoubtful('image 0', confirmedAtMs + 10)).toBe(true);
  on.gone.note(on.repository, layers[20]!);
  const doubtful = layers.map((_, index) => on.isDoubtful(`image ${index}`, confirmedAtMs));
  expect(doubtful).toEqual(layers.map((_, index) => index !== 1));
});
