import { expect, test } from 'vitest';
import { welcome } from '../../src/cli/welcome.ts';
import { loadText } from '../config/sources.ts';

test('the first screen has the address, a pull command to copy and the command for the status', async () => {
  const { config } = await loadText('cache: { dir: /data }');
  const text = welcome(config, { address: '127.0.0.1:5000', version: '1.2.3' });
  expect(text).toContain('Millpond 1.2.3 serves docker.io, ghcr.io, quay.io and 4 more\n');
  expect(text).toContain('http://127.0.0.1:5000\n');
  expect(text).toContain('docker pull 127.0.0.1:5000/docker.io/library/busybox\n');
  expect(text).toContain('npx millpond status\n');
});

test.each(['[::]:5000', '0.0.0.0:5000'])(
  'a mirror on every address (%s) is pulled from at this machine',
  async (address) => {
    const { config } = await loadText('upstreams: { reg.example: }');
    const text = welcome(config, { address, version: '1.2.3' });
    expect(text).toContain('docker pull 127.0.0.1:5000/reg.example/REPOSITORY\n');
  },
);
