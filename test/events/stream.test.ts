import { expect, test } from 'vitest';
import { basic, htpasswdFile } from '../access/support.ts';
import { pushImage, send } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { follow } from './follow.ts';

const image = localImage({ label: 'one' });
const other = localImage({ label: 'two' });

async function startSite(config: object = {}): Promise<TestSite> {
  return await startTestSite({
    upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } },
    config: { hosted: { repositories: ['local/**'] }, ...config },
  });
}

test('a stream of events goes on where it was cut', async () => {
  await using site = await startSite();
  let last: string;
  {
    using stream = follow(site);
    await expect.poll(stream.isOpened).toBe(true);
    await pushImage(site, 'local/app', image, '1');
    await expect
      .poll(() => stream.events.map(({ type }) => type))
      .toEqual(['dev.millpond.manifest.pushed', 'dev.millpond.tag.moved']);
    last = stream.events[0]!.id;
  }
  await pushImage(site, 'local/app', other, '2');
  using stream = follow(site, { 'last-event-id': last });
  await expect.poll(() => stream.events.map(({ data }) => data.data.tag)).toEqual(['1', undefined, '2']);
});

test('a stream from an id that the log does not have yet, or that another log had, begins at the beginning', async () => {
  await using site = await startSite();
  await pushImage(site, 'local/app', image, '1');
  let last: string;
  {
    using stream = follow(site);
    await expect.poll(stream.isOpened).toBe(true);
    await pushImage(site, 'local/app', other, '2');
    await expect.poll(() => stream.events.length).toBeGreaterThan(0);
    last = stream.events[0]!.id;
  }
  for (const id of [last.replace(/\d+$/, '999999'), `0123456789abcdef-1`]) {
    using stream = follow(site, { 'last-event-id': id });
    await expect.poll(() => stream.events.map(({ data }) => data.data.tag)).toEqual([undefined, '1', undefined, '2']);
  }
});

test('events are read in pages, of some kinds, and of one repository', async () => {
  await using site = await startSite();
  for (const name of ['local/app', 'local/web']) await pushImage(site, name, image, '1');
  const page = async (path: string) => {
    const { status, body, headers } = await send(site, ['GET', path]);
    expect({ status, type: headers['content-type'] }).toEqual({
      status: 200,
      type: 'application/cloudevents-batch+json',
    });
    return { subjects: (JSON.parse(body.toString()) as { subject: string }[]).map(({ subject }) => subject), headers };
  };
  const first = await page('/v2/_millpond/events?n=3');
  expect(first.subjects).toHaveLength(3);
  const [, next = ''] = /<([^>]+)>/.exec(String(first.headers['link'])) ?? [];
  expect((await page(next)).subjects).toEqual(['local/web:1']);
  expect((await page('/v2/_millpond/events?types=tagged')).subjects).toEqual(['local/app:1', 'local/web:1']);
  expect((await page('/v2/local/web/_millpond/events?types=tagged')).subjects).toEqual(['local/web:1']);
  expect((await send(site, ['GET', '/v2/_millpond/events?types=nothing'])).status).toBe(400);
});

test('arrivals from an upstream are events as well, and so is an upstream that is away', async () => {
  await using registry = await startRegistry();
  const remote = registry.addImage('app', '1');
  await using site = await startTestSite({
    upstreams: { 'registry.test': registry, 'gone.test': { origin: 'http://127.0.0.1:1' } },
  });
  await site.get('/v2/registry.test/app/manifests/1');
  for (const name of ['one', 'two', 'three', 'four']) await site.get(`/v2/gone.test/${name}/manifests/1`);
  const listed = async () => {
    const { body } = await send(site, ['GET', '/v2/_millpond/events']);
    return (JSON.parse(body.toString()) as { type: string; data: object }[]).map(({ type, data }) => ({
      type,
      ...data,
    }));
  };
  const { digest } = remote;
  const repository = 'registry.test/app';
  await expect
    .poll(listed)
    .toEqual(
      expect.arrayContaining([
        expect.objectContaining({ type: 'dev.millpond.manifest.cached', repository, digest }),
        { type: 'dev.millpond.tag.moved', repository, tag: '1', digest },
        expect.objectContaining({ type: 'dev.millpond.upstream.down', upstream: 'gone.test' }),
      ]),
    );
});

test('a caller gets the events of what it may see, and no others', async () => {
  await using folder = await temporaryFolder();
  const auth = {
    htpasswdFile: await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret' }),
    policies: [
      { users: ['ann'], repositories: ['**'], actions: ['pull', 'push', 'search'] },
      { users: ['bob'], repositories: ['local/bob/**'], actions: ['pull', 'push', 'search'] },
    ],
  };
  await using site = await startSite({ auth });
  const ann = basic('ann', 'a-secret');
  const blob = image.blobs[0]!;
  for (const name of ['local/secret', 'local/bob/app']) {
    for (const { digest, bytes } of image.blobs) {
      await send(site, ['POST', `/v2/${name}/blobs/uploads/?digest=${digest}`], { headers: ann, body: bytes });
    }
    const headers = { ...ann, 'content-type': image.mediaType };
    await send(site, ['PUT', `/v2/${name}/manifests/1`], { headers, body: image.bytes });
  }
  expect(blob.size).toBeGreaterThan(0);
  const seen = async (headers: Readonly<Record<string, string>>) => {
    const { body } = await send(site, ['GET', '/v2/_millpond/events?types=tagged'], { headers });
    return (JSON.parse(body.toString()) as { subject: string }[]).map(({ subject }) => subject);
  };
  expect(await seen(ann)).toEqual(['local/secret:1', 'local/bob/app:1']);
  expect(await seen(basic('bob', 'b-secret'))).toEqual(['local/bob/app:1']);
  expect((await send(site, ['GET', '/v2/_millpond/events'])).status).toBe(401);
});

test('a stop does not wait for streams', async () => {
  await using site = await startSite();
  using stream = follow(site);
  await expect.poll(stream.isOpened).toBe(true);
  await site.stop();
  await expect.poll(stream.isEnded).toBe(true);
});
