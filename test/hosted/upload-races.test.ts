import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { describe, expect, test } from 'vitest';
import { hostedLayout } from '../../src/hosted/layout.ts';
import { Uploads } from '../../src/hosted/uploads.ts';
import { readAll, seededSource } from '../support/bytes.ts';
import { localBlob } from '../support/images.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { begin, codeOf, send, startHostedSite } from './support.ts';

const repository = 'local/app';
const blob = localBlob(readAll(seededSource(3_000_000, 5)));

/** A PATCH whose body does not end; resolves when the mirror has begun to answer, or has read the head. */
async function openPatch(origin: string, location: string): Promise<ClientRequest> {
  const asked = request(new URL(location, origin), {
    method: 'PATCH',
    agent: false,
    headers: { expect: '100-continue' },
  });
  asked.on('error', () => undefined);
  asked.flushHeaders();
  await once(asked, 'continue');
  return asked;
}

async function statusOf(asked: ClientRequest): Promise<number> {
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.resume();
  return response.statusCode ?? 0;
}

describe('an upload that is being sent to', () => {
  test('is cancelled at once, and the chunk is refused', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const patch = await openPatch(site.origin, location);
    patch.write(blob.bytes.subarray(0, 1_000_000));
    const status = statusOf(patch);
    expect((await send(site, ['DELETE', location])).status).toBe(204);
    expect(await status).toBe(404);
    const after = await send(site, ['GET', location]);
    expect(after.status).toBe(404);
    patch.destroy();
  });

  test('takes a second chunk behind the first, and refuses it where it does not follow', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    const [first, second] = await Promise.all(
      [0, 1].map(() =>
        send(site, ['PATCH', location], {
          headers: { 'content-range': `0-${blob.size - 1}` },
          body: blob.bytes,
        }),
      ),
    );
    expect(new Set([first!.status, second!.status])).toEqual(new Set([202, 416]));
    expect((await send(site, ['PUT', `${location}?digest=${blob.digest}`])).status).toBe(201);
  });

  test('ends for one of two clients that finish it at once', async () => {
    await using site = await startHostedSite();
    const location = await begin(site, repository);
    await send(site, ['PATCH', location], { body: blob.bytes });
    const answers = await Promise.all([0, 1].map(() => send(site, ['PUT', `${location}?digest=${blob.digest}`])));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201, 404]));
    expect(answers.filter(({ status }) => status === 404).map(codeOf)).toEqual(['BLOB_UPLOAD_UNKNOWN']);
  });
});

test('sessions that have expired are removed while another one is being sent to', async () => {
  await using directory = await temporaryDirectory('uploads');
  let nowMs = Date.now();
  const uploads = new Uploads({
    layout: hostedLayout(directory.path),
    maxBlobBytes: 1_000_000,
    expiryMs: 60_000,
    now: () => nowMs,
  });
  const [busy, old] = [await uploads.begin(repository), await uploads.begin(repository)];
  const { promise: end, resolve } = Promise.withResolvers<void>();
  const { promise: begun, resolve: begins } = Promise.withResolvers<void>();
  async function* body(): AsyncGenerator<readonly Buffer[]> {
    begins();
    await end;
    yield [Buffer.from('the end')];
  }
  const appending = uploads.append(repository, busy.id, { body: body() });
  await begun;
  nowMs += 120_000;
  expect(await uploads.sweep()).toBe(1);
  await expect(uploads.get(repository, old.id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
  resolve();
  expect(await appending).toEqual({ id: busy.id, received: 7 });
});
