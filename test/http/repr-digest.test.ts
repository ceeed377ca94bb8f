import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { blobPath, pushBlob, pushImage, send, startHostedSite } from '../hosted/support.ts';
import { localBlob, localImage } from '../support/images.ts';

test('Repr-Digest says of manifests and blobs what Docker-Content-Digest says, also where a range is sent', async () => {
  await using site = await startHostedSite();
  const image = localImage({ label: 'one' });
  await pushImage(site, 'local/app', image, '1');
  const long = localBlob('by another algorithm', undefined, 'sha512');
  await pushBlob(site, 'local/app', long);
  const of = (name: string, algorithm: string, bytes: Buffer) =>
    `${name}=:${createHash(algorithm).update(bytes).digest('base64')}:`;
  const [layer] = image.blobs;
  for (const [path, expected] of [
    ['/v2/local/app/manifests/1', of('sha-256', 'sha256', image.bytes)],
    [`/v2/local/app/manifests/${image.digest}`, of('sha-256', 'sha256', image.bytes)],
    [blobPath('local/app', layer!.digest), of('sha-256', 'sha256', layer!.bytes)],
    [blobPath('local/app', long.digest), of('sha-512', 'sha512', long.bytes)],
  ] as const) {
    for (const method of ['GET', 'HEAD']) {
      const { status, headers } = await send(site, [method, path]);
      expect({ method, path, status, digest: headers['repr-digest'] }).toEqual({
        method,
        path,
        status: 200,
        digest: expected,
      });
    }
  }
  const part = await send(site, ['GET', blobPath('local/app', layer!.digest)], { headers: { range: 'bytes=2-5' } });
  expect({ status: part.status, digest: part.headers['repr-digest'] }).toEqual({
    status: 206,
    digest: of('sha-256', 'sha256', layer!.bytes),
  });
});
