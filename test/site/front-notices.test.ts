import { expect, test } from 'vitest';
import type { Config } from '../../src/config/config.ts';
import { loadConfig } from '../../src/config/load.ts';
import { wantedThreads } from '../../src/site/front-threads.ts';
import { frontThreads } from '../../src/site/open-fronts.ts';

async function threadsOf(changed: Partial<Config>) {
  const { config } = await loadConfig({ flags: {}, environment: {}, workingDirectory: '/nowhere' });
  const notices: string[] = [];
  const log = { warn: (text: string) => notices.push(text) };
  const calls = {
    sendFile: () => 0,
    send: () => 0,
    isInMemory: () => true,
    duplicate: (fd: number) => fd,
    accept: () => undefined,
    pair: () => [0, 0] as const,
    duplicateOnto: () => undefined,
  };
  const serve = { ...config.serve, threads: 3 };
  const wanted = frontThreads({ config: { ...config, serve, ...changed } }, { log: log as never, calls });
  return { threads: wanted?.threads, notices };
}

test('front threads that are configured and cannot be used are named in the log, with the reason', async () => {
  expect(await threadsOf({})).toEqual({ threads: 3, notices: [] });
  expect(await threadsOf({ tls: {} as never })).toEqual({ threads: 3, notices: [] });
  const { threads, notices } = await threadsOf({ tls: { clientCaFile: 'ca.pem' } as never });
  expect(threads).toBeUndefined();
  expect(notices).toEqual([expect.stringMatching(/^serve\.threads: 3 has no effect with tls\.clientCaFile, because /)]);
});

test('as many threads as there are cores answer, at most four, where nothing else is configured', async () => {
  const { config } = await loadConfig({ flags: {}, environment: {}, workingDirectory: '/nowhere' });
  expect([1, 2, 4, 64].map((cores) => wantedThreads(config, cores))).toEqual([1, 2, 4, 4]);
  // Each request is decided: there is nothing for them to do.
  const auth = (more: object) => ({ ...config, auth: { certificates: false, policies: [], ...more } as never });
  expect(wantedThreads(auth({}), 4)).toBe(4);
  expect(wantedThreads(auth({ certificates: true }), 4)).toBe(1);
  expect(wantedThreads(auth({ policies: [{ addresses: [] }] }), 4)).toBe(4);
  expect(wantedThreads(auth({ policies: [{ addresses: [] }, { addresses: ['10.0.0.0/8'] }] }), 4)).toBe(1);
  expect(wantedThreads({ ...config, hold: [{} as never] }, 4)).toBe(1);
  expect(wantedThreads({ ...config, serve: { ...config.serve, threads: 7 } }, 2)).toBe(7);
});

test('the log does not warn of front threads that are not configured and cannot be used', async () => {
  const serve = { threads: 'auto', sendfile: 'auto' } as const;
  expect((await threadsOf({ serve, tls: { clientCaFile: 'ca.pem' } as never })).notices).toEqual([]);
});

test('one thread needs no word', async () => {
  const serve = { threads: 1, sendfile: 'auto' } as const;
  expect(await threadsOf({ serve, tls: {} as never })).toEqual({ threads: undefined, notices: [] });
});
