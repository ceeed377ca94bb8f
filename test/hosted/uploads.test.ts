import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readAll, seededSource } from '../support/bytes.ts';
import { localBlob } from '../support/images.ts';
import { temporaryFolder } from '../support/site.ts';
import { begin, blobPath, codeOf, pushBlob, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const blob = localBlob(readAll(seededSource(3_000_000, 5)));

async function sessions(cacheDir: string): Promise<string[]> {
  return await readdir(join(cacheDir, 'hosted', 'uploads'));
}

describe('a blob is pushed', () => {
  test('by POST and PUT, and read back at its Location', async () => {
    await using site = await startHostedSite();
    const created = await pushBlob(site, repository, blob);
    expect(created).toMatchObject({ status: 201, headers: { 'docker-content-digest': blob.digest } });
    const { status, body, headers } = await send(site, ['GET', String(created.headers['location'])]);
    expect(status).toBe(200);
    expect(body.equals(blob.bytes)).toBe(true);
    expect(headers).toMatchObject({ 'content-type': 'application/octet-stream', 'docker-content-digest': blob.digest });
    expect(await sessions(site.cacheDir)).toEqual([]);
  });

  test('by one POST with ?digest=', async () => {
    await using site = await startHostedSite();
    const path = `/v2/${repository}/blobs/uploads/?digest=${blob.digest}`;
    expect((await send(site, ['POST', path], { body: blob.bytes })).status).toBe(201);
    // The same again needs no bytes, and so does any repository that the caller may push to.
    expect((await send(site, ['POST', path])).status).toBe(201);
  });

  test('in chunks, the last of them in the PUT', async () => {
    await using site = await startHostedSite();
    let location = await begin(site, repository);
    for (const [start, end] of [
      [0, 1_000_000],
      [1_000_000, 2_000_000],
    ] as const) {
      const { status, headers } = await send(site, ['PATCH', location], {
        headers: { 'content-range': `${start}-${end - 1}` },
        body: blob.bytes.subarray(start, end),
      });
      expect({ status, range: headers['range'] }).toEqual({ status: 202, range: `0-${end - 1}` });
      location = String(headers['location']);
    }
    const rest = blob.bytes.subarray(2_000_000);
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: rest })).status).toBe(201);
  });

  test('in a stream of unknown length', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const pieces = [blob.bytes.subarray(0, 7), blob.bytes.subarray(7)];
    expect((await send(site, ['PATCH', location], { body: pieces })).status).toBe(202);
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`])).status).toBe(201);
  });

  test('by sha512, and nothing else is said of its digest', async () => {
    await using site = await startHostedSite();
    const long = localBlob(blob.bytes, undefined, 'sha512');
    expect((await pushBlob(site, repository, long)).headers['docker-content-digest']).toBe(long.digest);
    const { headers } = await send(site, ['HEAD', blobPath(repository, long.digest)]);
    expect(headers).toMatchObject({ 'docker-content-digest': long.digest, 'content-length': String(long.size) });
    expect((await send(site, ['HEAD', blobPath(repository, blob.digest)])).status).toBe(404);
  });

  test('that has no bytes', async () => {
    await using site = await startHostedSite();
    const empty = localBlob('');
    expect((await pushBlob(site, repository, empty)).status).toBe(201);
    expect((await send(site, ['GET', blobPath(repository, empty.digest)])).headers['content-length']).toBe('0');
  });
});

describe('an upload', () => {
  test('goes on after a chunk out of order, whose answer states the position', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const chunk = (start: number, end: number) =>
      send(site, ['PATCH', location], {
        headers: { 'content-range': `${start}-${end - 1}` },
        body: blob.bytes.subarray(start, end),
      });
    expect(await chunk(1000, 2000)).toMatchObject({ status: 416, headers: { range: '0--1' } });
    expect((await chunk(0, 1000)).status).toBe(202);
    expect(await chunk(0, 1000)).toMatchObject({ status: 416, headers: { range: '0-999' } });
    const put = await send(site, ['PUT', `${location}?digest=${blob.digest}`], {
      headers: { 'content-range': `2000-${blob.size - 1}` },
      body: blob.bytes.subarray(2000),
    });
    expect({ status: put.status, code: codeOf(put) }).toEqual({ status: 416, code: 'BLOB_UPLOAD_INVALID' });
    expect(await send(site, ['GET', location])).toMatchObject({ status: 204, headers: { range: '0-999' } });
    const rest = blob.bytes.subarray(1000);
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: rest })).status).toBe(201);
  });

  test('ends with a wrong digest, of which nothing is kept', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const wrong = await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: 'other bytes' });
    expect({ status: wrong.status, code: codeOf(wrong) }).toEqual({ status: 400, code: 'DIGEST_INVALID' });
    const after = await send(site, ['GET', location]);
    expect({ status: after.status, code: (await send(site, ['PATCH', location], { body: 'x' })).status }).toEqual({
      status: 404,
      code: 404,
    });
    expect((await send(site, ['HEAD', blobPath(repository, blob.digest)])).status).toBe(404);
    expect(await sessions(site.cacheDir)).toEqual([]);
  });

  test('goes on where the digest is missing or is none', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    for (const query of ['', '?digest=sha256:short', '?digest=md5:d41d8cd98f00b204e9800998ecf8427e']) {
      const { status, body } = await send(site, ['PUT', `${location}${query}`], { body: blob.bytes });
      expect({ query, status, code: JSON.parse(body.toString()).errors[0].code }).toEqual({
        query,
        status: 400,
        code: 'DIGEST_INVALID',
      });
    }
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: blob.bytes })).status).toBe(201);
  });

  test('belongs to its repository alone', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const elsewhere = location.replace(repository, 'local/other');
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      expect((await send(site, [method, elsewhere])).status, method).toBe(404);
    }
    expect((await send(site, ['GET', location])).status).toBe(204);
  });

  test('can be cancelled', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    expect((await send(site, ['DELETE', location])).status).toBe(204);
    const gone = await send(site, ['PATCH', location], { body: 'x' });
    expect({ status: gone.status, code: codeOf(gone) }).toEqual({ status: 404, code: 'BLOB_UPLOAD_UNKNOWN' });
  });

  test('outlives the mirror that it was begun at', async () => {
    await using folder = await temporaryFolder();
    const cacheDir = join(folder.path, 'cache');
    let location: string;
    {
      await using site = await startHostedSite({ cacheDir });
      location = await begin(site, repository);
      await send(site, ['PATCH', location], { body: blob.bytes.subarray(0, 1_500_000) });
    }
    await using site = await startHostedSite({ cacheDir });
    expect(await send(site, ['GET', location])).toMatchObject({ status: 204, headers: { range: '0-1499999' } });
    const rest = blob.bytes.subarray(1_500_000);
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`], { body: rest })).status).toBe(201);
    expect((await send(site, ['GET', blobPath(repository, blob.digest)])).body.equals(blob.bytes)).toBe(true);
  });

  test('keeps nothing of a chunk whose length is not what was said', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const { status, body } = await send(site, ['PATCH', location], {
      headers: { 'content-range': '0-99' },
      body: [Buffer.from('too short')],
    });
    expect({ status, code: JSON.parse(body.toString()).errors[0].code }).toEqual({ status: 400, code: 'SIZE_INVALID' });
    expect(await send(site, ['GET', location])).toMatchObject({ headers: { range: '0--1' } });
  });
});

describe('a blob is mounted', () => {
  test.each([
    ['from the repository that has it', '&from=local/app'],
    ['from whichever has it', ''],
  ])('%s, without its bytes', async (_name, from) => {
    await using site = await startHostedSite();
    await pushBlob(site, repository, blob);
    const path = `/v2/local/other/blobs/uploads/?mount=${blob.digest}${from}`;
    const mounted = await send(site, ['POST', path]);
    expect(mounted).toMatchObject({ status: 201, headers: { location: blobPath('local/other', blob.digest) } });
    expect((await send(site, ['GET', blobPath('local/other', blob.digest)])).body.equals(blob.bytes)).toBe(true);
  });

  test.each([
    ['no repository has it', '&from=local/empty'],
    ['the repository it should come from is none of ours', '&from=docker.io/library/app'],
    ['it should come from nowhere in particular', ''],
  ])('by an upload where %s', async (_name, from) => {
    await using site = await startHostedSite();
    const path = `/v2/local/other/blobs/uploads/?mount=${blob.digest}${from}`;
    const asked = await send(site, ['POST', path]);
    expect(asked.status).toBe(202);
    const put = await send(site, ['PUT', `${String(asked.headers['location'])}?digest=${blob.digest}`], {
      body: blob.bytes,
    });
    expect(put.status).toBe(201);
  });

  test('and stays where one of two repositories deletes it', async () => {
    await using site = await startHostedSite();
    await pushBlob(site, repository, blob);
    await send(site, ['POST', `/v2/local/other/blobs/uploads/?mount=${blob.digest}&from=${repository}`]);
    expect((await send(site, ['DELETE', blobPath(repository, blob.digest)])).status).toBe(202);
    expect((await send(site, ['HEAD', blobPath(repository, blob.digest)])).status).toBe(404);
    expect((await send(site, ['GET', blobPath('local/other', blob.digest)])).body.equals(blob.bytes)).toBe(true);
    await send(site, ['DELETE', blobPath('local/other', blob.digest)]);
    expect(await readdir(join(site.cacheDir, 'hosted', 'blobs', 'sha256'))).toEqual([]);
  });
});

describe('a client that is refused in the middle of a large body', () => {
  const large = readAll(seededSource(30_000_000, 9));
  const pieces = Array.from({ length: 30 }, (_, at) => large.subarray(at * 1_000_000, (at + 1) * 1_000_000));

  test.each([
    ['of a length that it has announced', large],
    ['of unknown length', pieces],
  ])('%s reads why', async (_name, body) => {
    await using site = await startHostedSite({ hosted: { quota: '2MB' } });
    const location = await begin(site, repository);
    const answer = await send(site, ['PATCH', location], { body });
    expect({ status: answer.status, code: codeOf(answer) }).toEqual({ status: 413, code: 'QUOTA_EXCEEDED' });
  });
});
