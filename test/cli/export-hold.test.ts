import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { localArtifact, localBlob } from '../support/images.ts';
import { type LayoutImage, layoutOf, named, writeTar } from '../support/layouts.ts';
import { startTestSite } from '../support/site.ts';
import { place } from './archive-place.ts';

const small = { maxSize: '5MB', minFree: '0' };

/** An image with a layer of 2 MB. */
function sized(label: string): LayoutImage {
  const manifest = localArtifact({ layers: [localBlob(Buffer.alloc(2_000_000, label))] });
  return { manifest, annotations: named(`docker.io/library/${label}:1`) };
}

test('export to a slow reader is whole, although others fill the cache meanwhile', async () => {
  await using here = await place({ cache: small });
  const { upstreams, cacheDir } = here;
  await using site = await startTestSite({ upstreams, cacheDir, config: { cache: { dir: cacheDir, ...small } } });
  const archiveOf = async (label: string): Promise<string> =>
    await writeTar(here.path(`${label}.tar`), layoutOf([sized(label)]));
  expect(await here.run('import', await archiveOf('a'))).toMatchObject({ code: 0 });
  const begun = Promise.withResolvers<void>();
  let isSlow = true;
  const waiting: ((() => void) | undefined)[] = [];
  const written: Buffer[] = [];
  const exported = runProgram(['export', '--output', '-', 'a:1'], {
    stdout: {
      write: (chunk: string | Uint8Array, done?: () => void) => {
        written.push(Buffer.from(chunk as string));
        begun.resolve();
        if (isSlow) waiting.push(done);
        else done?.();
      },
    },
    stderr: { write: () => undefined },
    stdin: Readable.from([]),
    environment: {},
    workingDirectory: here.path(''),
  });
  await begun.promise;
  for (const label of ['b', 'c', 'd']) {
    expect(await here.run('import', await archiveOf(label))).toMatchObject({ code: 0, stderr: '' });
  }
  isSlow = false;
  for (const done of waiting) done?.();
  expect(await exported).toBe(0);
  const layer = sized('a').manifest.blobs.at(-1)!;
  expect(Buffer.concat(written).includes(layer.bytes)).toBe(true);
  // Held for as long as it was written, and no longer.
  for (const label of ['e', 'f', 'g']) {
    expect(await here.run('import', await archiveOf(label))).toMatchObject({ code: 0, stderr: '' });
  }
  expect((await site.get('/v2/docker.io/library/a/manifests/1')).status).not.toBe(200);
});
