import { expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { withoutRestart } from '../../src/config/restart.ts';
import { loadText } from './sources.ts';

async function load(text: string): Promise<Config> {
  return (await loadText(text)).config;
}

test('what is only read at the start stays and is named; the rest is taken', async () => {
  const running = await load('cache: { dir: /a, memory: 1MiB, tagTtl: 1s }\nlog: { format: text }\n');
  const wanted = await load(
    'listen: ":1"\ntls: { certFile: /c, keyFile: /k }\ncache: { dir: /b, memory: 2MiB, tagTtl: 2s }\nlog: { level: warn }\n',
  );
  const { config, left } = withoutRestart(running, wanted);
  expect(left).toEqual(['listen', 'tls', 'cache.dir', 'cache.memory', 'log.format']);
  expect(config).toEqual({
    ...running,
    cache: { ...running.cache, tagTtlMs: 2_000 },
    upstreams: wanted.upstreams,
    log: { level: 'warn', format: 'text' },
  });
});

test('the same configuration needs no restart, and another password of Redis does', async () => {
  const text = (password: string) =>
    `redis: { url: "redis://:${password}@127.0.0.1:6379" }\ncluster: { secretFile: /s }\n`;
  const running = await load(`cache: { dir: /a }\n${text('one')}`);
  expect(withoutRestart(running, await load(`cache: { dir: /a }\n${text('one')}`)).left).toEqual([]);
  expect(withoutRestart(running, await load(`cache: { dir: /a }\n${text('other')}`)).left).toEqual(['redis']);
});
