import { expect, test } from 'vitest';
import { localBlob, localImage } from '../support/images.ts';
import { codeOf, pushBlob, pushImage, send, startHostedSite } from './support.ts';

const type = 'application/vnd.oci.image.manifest.v1+json';
const indexType = 'application/vnd.oci.image.index.v1+json';
const config = localBlob('{}');
const descriptor = { mediaType: 'application/x', digest: config.digest, size: config.size };
const body = (members: Readonly<Record<string, unknown>>): string =>
  JSON.stringify({ schemaVersion: 2, mediaType: type, config: descriptor, layers: [], ...members });

test('a manifest is refused where a part of it is no descriptor, and accepted where it is not there', async () => {
  await using site = await startHostedSite();
  await pushBlob(site, 'local/app', config);
  const put = async (text: string, contentType = type) =>
    await send(site, ['PUT', '/v2/local/app/manifests/1'], { headers: { 'content-type': contentType }, body: text });
  for (const [text, contentType = type] of [
    [body({ config: 5 })],
    [body({ config: { ...descriptor, digest: 'sha256:../../../etc/passwd' } })],
    [body({ config: { ...descriptor, digest: `blake3:${'a'.repeat(64)}` } })],
    [body({ config: { ...descriptor, size: -1 } })],
    [body({}).replace(`"size":${config.size}`, '"size":1e400')],
    [body({ layers: {} })],
    [body({ layers: [descriptor, null] })],
    [body({ subject: { mediaType: type, digest: 'x', size: 1 } })],
    [JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: [null] }), indexType],
  ] as const) {
    const answer = await put(text, contentType);
    expect({ text, status: answer.status, code: codeOf(answer) }).toEqual({
      text,
      status: 400,
      code: 'MANIFEST_INVALID',
    });
  }
  for (const text of [body({ subject: null }), body({ layers: null }), body({ annotations: null })]) {
    expect({ text, status: (await put(text)).status }).toEqual({ text, status: 201 });
  }
});

test('what a fallback tag lists beside descriptors is left out of the referrers', async () => {
  await using site = await startHostedSite();
  const image = localImage({ label: 'subject' });
  await pushImage(site, 'local/app', image, '1');
  await pushBlob(site, 'local/app', config);
  // An image may have the tag of a fallback, too.
  const path = `/v2/local/app/manifests/${image.digest.replace(':', '-')}`;
  const odd = body({ manifests: [], annotations: { a: 'b' } });
  expect((await send(site, ['PUT', path], { headers: { 'content-type': type }, body: odd })).status).toBe(201);
  const { status, body: listed } = await send(site, ['GET', `/v2/local/app/referrers/${image.digest}`]);
  expect({ status, manifests: JSON.parse(listed.toString()).manifests }).toEqual({ status: 200, manifests: [] });
});
