import { describe, expect, test } from 'vitest';
import { plainGet } from '../mirror/plain-client.ts';
import { blobFile, filesIn } from '../mirror/support.ts';
import { readAll, seededSource } from '../support/bytes.ts';
import type { AddedBlob } from '../support/contents.ts';
import type { Fault, PlacedFault } from '../support/faults.ts';
import type { RequestFilter } from '../support/recorded-request.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite } from '../support/site.ts';

const size = 200_000_000;
const content = readAll(seededSource(size, 'cuts'));
const clientCount = 20;
const places = [0.1 * size, 0.5 * size, 0.99 * size];
const timesEach = 5;
const answersNeeded = places.length * timesEach + 1;

// Most of the time is spent waiting between attempts.
describe.concurrent('a blob of 200 MB, cut five times in a row at 10, at 50 and at 99 %, wanted by twenty clients', () => {
  test('comes whole to each, and hardly a byte crosses the wire twice', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob(content);
    placeCuts(upstream.fault.bind(upstream), blob);
    await expectWholeForAll(site, blob);
    expect(upstream.requestsFor(blob.digest)).toHaveLength(answersNeeded);
    expect(upstream.bytesSent(blob.digest)).toBeLessThanOrEqual(1.02 * size);
  });

  test('comes whole from behind redirects that are good once, and some of which have expired', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob(content);
    const expired = `${upstream.cdn.origin}/signed/expired`;
    upstream.fault(blob.digest, { kind: 'redirect' });
    for (const number of [3, 4, 11]) {
      const filter: RequestFilter = (request) => upstream.requests.indexOf(request) === number;
      upstream.fault(filter, { kind: 'redirect-to', location: expired });
    }
    placeCuts(upstream.cdn.place.bind(upstream.cdn), blob);
    await expectWholeForAll(site, blob);
    expect(upstream.requestsFor(blob.digest)).toHaveLength(answersNeeded + 3);
    expect(upstream.cdn.requests.filter(({ status }) => status === 403)).toHaveLength(3);
    const signed = upstream.cdn.requests.filter(({ digest }) => digest === blob.digest);
    expect(new Set(signed.map(({ path }) => path)).size).toBe(answersNeeded);
    expect(upstream.bytesSent(blob.digest)).toBeLessThanOrEqual(1.02 * size);
  });

  test('comes whole from an upstream that always begins at the first byte', async () => {
    await using upstream = await startRegistry();
    await using site = await startTestSite({ upstreams: { 'docker.io': upstream } });
    const blob = upstream.addBlob(content);
    upstream.fault(blob.digest, { kind: 'ignore-range' });
    placeCuts(upstream.fault.bind(upstream), blob);
    await expectWholeForAll(site, blob);
    expect(upstream.requestsFor(blob.digest)).toHaveLength(answersNeeded);
  });
});

type Place = (filter: RequestFilter, fault: Fault, options: { readonly times: number }) => PlacedFault;

function placeCuts(place: Place, { digest }: AddedBlob): void {
  // Faults are met in the order of placing: the last place is asked first, while those before it are not used up.
  const cuts: PlacedFault[] = [];
  for (const [index, position] of [...places.entries()].toReversed()) {
    const isItsTurn = (): boolean => index === 0 || cuts[index - 1]?.met === timesEach;
    const filter: RequestFilter = (request) => request.digest === digest && isItsTurn();
    cuts[index] = place(filter, { kind: 'cut-at', position }, { times: timesEach });
  }
}

async function expectWholeForAll(site: TestSite, blob: AddedBlob): Promise<void> {
  const url = `${site.origin}/v2/library/app/blobs/${blob.digest}`;
  const clients = Array.from({ length: clientCount }, () => plainGet(url, content));
  await Promise.all(clients.map((client) => client.headers));
  const received = await Promise.all(clients.map((client) => client.read()));
  expect(received).toEqual(clients.map(() => size));
  // What has been verified is made safe on disk before the end.
  await site.stop();
  expect(await filesIn(site.cacheDir)).toEqual([blobFile(blob.digest)]);
}
