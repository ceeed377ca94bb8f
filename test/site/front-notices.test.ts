import { expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { frontThreads } from '../../src/site/open-fronts.ts';

async function threadsOf(changed: Partial<Config>) {
  const { config } = await loadConfig({ flags: {}, environment: {}, workingDirectory: '/nowhere' });
  const notices: string[] = [];
  const log = { warn: (text: string) => notices.push(text) };
  const calls = { sendFile: () => 0, isInMemory: () => true, duplicate: (fd: number) => fd };
  const serve = { ...config.serve, threads: 3 };
  const wanted = frontThreads({ config: { ...config, serve, ...changed } }, { log: log as never, calls });
  return { threads: wanted?.threads, notices };
}

test('front threads that are configured and cannot be used are named in the log, with the reason', async () => {
  expect(await threadsOf({})).toEqual({ threads: 3, notices: [] });
  const { threads, notices } = await threadsOf({ tls: {} as never });
  expect(threads).toBeUndefined();
  expect(notices).toEqual([expect.stringMatching(/^serve\.threads: 3 has no effect with tls, because /)]);
});

test('one thread needs no word', async () => {
  const serve = { threads: 1, sendfile: 'auto' } as const;
  expect(await threadsOf({ serve, tls: {} as never })).toEqual({ threads: undefined, notices: [] });
});
