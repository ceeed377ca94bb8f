import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { getText, type RawClient, rawClient } from '../http/raw-client.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { run } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { describeWith } from '../support/tools.ts';

/** Files that the process may open beside those that it has open with all clients connected. */
const spareFiles = 8;

describeWith(['prlimit'], 'a mirror that has as many files open as it may', () => {
  test('answers 503 with Retry-After and never 500, cuts no pull, and serves everything once there are files again', async () => {
    await using upstream = await startRegistry();
    const blobs = Array.from({ length: 30 }, (_, part) => upstream.addBlob({ size: 200_000, seed: `part ${part}` }));
    const stall = upstream.fault(/blobs/, { kind: 'stall', afterBytes: 100_000 });
    await using millpond = await startMillpond({
      upstreams: { 'docker.io': { urls: [upstream.origin] } },
      limits: { perClient: { connections: 100, requests: 1000 } },
    });
    const paths = blobs.map(({ digest }) => `/v2/library/app/blobs/${digest}`);
    // All are connected before the first of them asks: what there are no files for are downloads.
    using clients = new DisposableStack();
    const opened: RawClient[] = [];
    for (const _ of paths) opened.push(clients.use(await rawClient(millpond.origin, { sends: '' })));
    // One that was accepted has been counted: the process has read a request of it.
    await get(`${millpond.origin}/healthz`);
    const { pid } = millpond.process;
    const openFiles = (await readdir(`/proc/${pid}/fd`)).length;
    await run('prlimit', ['--pid', String(pid), `--nofile=${openFiles + spareFiles}`]);
    for (const [index, { socket }] of opened.entries()) socket.write(getText(paths[index]!, 'Connection: close\r\n'));
    await expect.poll(() => opened.some((client) => client.text().startsWith('HTTP/1.1 503'))).toBe(true);
    stall.release();
    await Promise.all(opened.map(({ closed }) => closed));
    const statuses = opened.map((client) => client.text().slice(9, 12));
    expect(new Set(statuses)).toEqual(new Set(['200', '503']));
    for (const client of opened) {
      const [head = '', body = ''] = client.text().split('\r\n\r\n');
      if (head.startsWith('HTTP/1.1 200')) expect(client.text().length - head.length - 4).toBe(200_000);
      else {
        expect(head).toContain('Retry-After: 5');
        expect(body).toContain('as many files open as it may have');
      }
    }
    expect(millpond.process.output).not.toContain('"status":500');
    for (const [index, path] of paths.entries()) {
      expect(await get(`${millpond.origin}${path}`)).toMatchObject({ status: 200, sha256: blobs[index]!.digest });
    }
  });
});
