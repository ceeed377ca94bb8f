import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { networkNamespace } from '../support/network-namespace.ts';
import { startProcess } from '../support/processes.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

describeWith(['ip', 'root'], 'a mirror whose DNS never answers', () => {
  test('ends on a signal, though it is looking for its Redis', async () => {
    await using owned = new AsyncDisposableStack();
    const network = owned.use(await networkNamespace());
    // What `ip netns exec` puts in the place of the files of /etc.
    const etc = join('/etc/netns', network.name);
    await mkdir(etc, { recursive: true });
    owned.defer(() => rm(etc, { recursive: true }));
    await writeFile(join(etc, 'resolv.conf'), 'nameserver 127.0.0.77\noptions timeout:30 attempts:5\n');
    const [command, ...before] = [...network.through, process.execPath];
    const silent = `const socket = require('node:dgram').createSocket('udp4');
      socket.on('message', () => console.log('asked'));
      socket.bind(53, '127.0.0.77', () => console.log('bound'));`;
    const { process: dns } = await startProcess(command, { args: [...before, '-e', silent], ready: /bound/ });
    owned.use(dns);
    const directory = owned.use(await temporaryDirectory('ends')).path;
    await writeFile(join(directory, 'secret'), 'a secret of replicas');
    const config = { redis: { url: 'redis://millpond-redis:6379' }, cluster: { secretFile: 'secret' } };
    await using mirror = await startMillpond(config, { directory, through: network.through });
    await dns.untilOutput(/asked/);
    mirror.process.kill('SIGTERM');
    // A look-up takes 150 s there.
    expect(await mirror.process.exited()).toBe(0);
    expect(mirror.process.output).toContain('"msg":"stopped"');
  });
});

test('SIGHUP while it stops does nothing, and two signals at once are one: transfers end well', async () => {
  await using upstream = await startRegistry();
  await using mirror = await startMillpond({ upstreams: { 'docker.io': { urls: [upstream.origin] } } });
  const blob = upstream.addBlob({ size: 2_000_000, seed: 'stopping' });
  const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
  const pull = get(`${mirror.origin}/v2/library/app/blobs/${blob.digest}`);
  await stalled.reached;
  // What the terminal sends, and what npm forwards.
  mirror.process.kill('SIGINT');
  mirror.process.kill('SIGINT');
  await mirror.process.untilOutput(/"msg":"stopping"/);
  mirror.process.kill('SIGHUP');
  mirror.process.kill('SIGHUP');
  stalled.release();
  expect(await pull).toMatchObject({ complete: true, sha256: blob.digest });
  expect(await mirror.process.exited()).toBe(0);
});

test('another signal after a moment ends it at once', async () => {
  await using upstream = await startRegistry();
  await using mirror = await startMillpond({ upstreams: { 'docker.io': { urls: [upstream.origin] } } });
  const blob = upstream.addBlob({ size: 2_000_000, seed: 'twice' });
  const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
  const pull = get(`${mirror.origin}/v2/library/app/blobs/${blob.digest}`);
  await stalled.reached;
  mirror.process.kill('SIGTERM');
  await mirror.process.untilOutput(/"msg":"stopping"/);
  const again = setInterval(() => mirror.process.kill('SIGTERM'), 200);
  expect(await mirror.process.exited()).toBe(1);
  clearInterval(again);
  expect((await pull).complete).toBe(false);
});
