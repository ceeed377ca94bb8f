import { describe, expect, test } from 'vitest';
import { readAll, seededSource } from '../support/bytes.ts';
import { localBlob } from '../support/images.ts';
import { temporaryFolder } from '../support/site.ts';
import { registryIn } from './registry.ts';
import { begin, codeOf, pushBlob, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const blobs = Array.from({ length: 4 }, (_, at) => localBlob(readAll(seededSource(100_000, at))));
const [one, two] = blobs;

async function* body(bytes: Buffer): AsyncGenerator<readonly Buffer[]> {
  yield [Buffer.from(bytes)];
}

describe('an upload that has not ended', () => {
  test('counts against the quota of its repository, and of no other one', async () => {
    await using site = await startHostedSite({ hosted: { quota: '250KB' } });
    const location = await begin(site, repository);
    // Without a length, it is counted as it arrives.
    expect((await send(site, ['PATCH', location], { body: [one!.bytes, one!.bytes] })).status).toBe(202);
    const refused = await pushBlob(site, repository, two!);
    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
    expect(refused.body.toString()).toContain('unfinished uploads 200000');
    expect((await pushBlob(site, 'local/other', two!)).status).toBe(201);
    expect((await send(site, ['DELETE', location])).status).toBe(204);
    expect((await pushBlob(site, repository, two!)).status).toBe(201);
  });

  test('goes on after the quota has refused a chunk, and is counted once when it ends', async () => {
    await using site = await startHostedSite({ hosted: { quota: '250KB' } });
    const location = await begin(site, repository);
    await send(site, ['PATCH', location], { body: one!.bytes });
    const tooMuch = await send(site, ['PATCH', location], { body: readAll(seededSource(200_000, 9)) });
    expect({ status: tooMuch.status, code: codeOf(tooMuch) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
    expect((await send(site, ['GET', location])).headers['range']).toBe('0-99999');
    expect((await send(site, ['PUT', `${location}?digest=${one!.digest}`])).status).toBe(201);
    expect((await pushBlob(site, repository, two!)).status).toBe(201);
  });

  test('counts after a restart, too', async () => {
    await using folder = await temporaryFolder();
    const hosted = { quota: '250KB' };
    {
      await using site = await startHostedSite({ hosted, cacheDir: folder.path });
      await send(site, ['PATCH', await begin(site, repository)], { body: [one!.bytes, two!.bytes] });
    }
    await using site = await startHostedSite({ hosted, cacheDir: folder.path });
    const answer = await pushBlob(site, repository, blobs[2]!);
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
  });

  test('gives way when it has been left alone for ten minutes and another one needs its room', async () => {
    await using folder = await temporaryFolder();
    let nowMs = Date.now();
    const registry = registryIn(folder.path, {
      now: () => nowMs,
      rules: { quotas: [{ pattern: '**', bytes: 250_000 }] },
    });
    const { uploads } = registry;
    const left = await uploads.begin(repository);
    const alive = await uploads.begin('local/other');
    for (const bytes of [one!.bytes, two!.bytes]) await uploads.append(repository, left.id, { body: body(bytes) });
    const next = await uploads.begin(repository);
    const chunk = { body: body(one!.bytes), length: one!.size };
    await expect(uploads.append(repository, next.id, chunk)).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
    nowMs += 600_000;
    expect((await uploads.append(repository, next.id, chunk)).received).toBe(one!.size);
    await expect(uploads.get(repository, left.id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    // It takes no room in another repository.
    expect((await uploads.get('local/other', alive.id)).received).toBe(0);
  });
});

describe('the uploads of one client', () => {
  test('are at most hosted.maxUploads, and those that have ended do not count', async () => {
    await using site = await startHostedSite({ hosted: { maxUploads: 2 } });
    const locations = [await begin(site, repository), await begin(site, 'local/other')];
    for (const query of ['', `?mount=${one!.digest}&from=local/none`]) {
      const refused = await send(site, ['POST', `/v2/${repository}/blobs/uploads/${query}`]);
      expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 429, code: 'TOOMANYREQUESTS' });
      expect(refused.headers['retry-after']).toBe('60');
    }
    expect((await send(site, ['PUT', `${locations[0]}?digest=${one!.digest}`], { body: one!.bytes })).status).toBe(201);
    const third = await begin(site, repository);
    expect((await send(site, ['POST', `/v2/${repository}/blobs/uploads/`])).status).toBe(429);
    expect((await send(site, ['DELETE', third])).status).toBe(204);
    await begin(site, repository);
  });

  test('are not held up by those of another one, and gives way to new ones when they were left alone', async () => {
    await using folder = await temporaryFolder();
    let nowMs = Date.now();
    const { uploads } = registryIn(folder.path, { now: () => nowMs, rules: { maxUploads: 2 } });
    const left = [await uploads.begin(repository, 'user ann'), await uploads.begin(repository, 'user ann')];
    await expect(uploads.begin(repository, 'user ann')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    const ofBob = await uploads.begin(repository, 'user bob');
    nowMs += 600_000;
    await uploads.begin(repository, 'user ann');
    for (const { id } of left) {
      await expect(uploads.get(repository, id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    }
    expect(await uploads.get(repository, ofBob.id)).toEqual({ id: ofBob.id, received: 0 });
  });
});

test('an upload begins without the last slash of the path, too', async () => {
  await using site = await startHostedSite();
  const path = `/v2/${repository}/blobs/uploads`;
  const { status, headers } = await send(site, ['POST', path]);
  expect(status).toBe(202);
  const put = await send(site, ['PUT', `${String(headers['location'])}?digest=${one!.digest}`], { body: one!.bytes });
  expect(put.status).toBe(201);
  expect((await send(site, ['POST', `${path}?digest=${two!.digest}`], { body: two!.bytes })).status).toBe(201);
  expect((await send(site, ['GET', path])).status).toBe(405);
});
