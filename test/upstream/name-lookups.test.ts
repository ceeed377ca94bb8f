import type { LookupAddress } from 'node:dns';
import { expect, test, vi } from 'vitest';
import { AddressGuard } from '../../src/upstream/address-guard.ts';
import { NameLookups, type NameLookupsOptions, type SystemLookup } from '../../src/upstream/name-lookups.ts';

const first: LookupAddress[] = [{ address: '198.51.100.1', family: 4 }];
const second: LookupAddress[] = [{ address: '198.51.100.2', family: 4 }];

/** A system that answers when it is told to. */
function scripted() {
  const running: { hostname: string; answer: Parameters<SystemLookup>[2] }[] = [];
  const lookup: SystemLookup = (hostname, _options, answer) => void running.push({ hostname, answer });
  return {
    running,
    lookup,
    names: () => running.map(({ hostname }) => hostname),
    answer(hostname: string, error: Error | null, addresses: LookupAddress[] = []) {
      const at = running.findIndex((one) => one.hostname === hostname);
      running.splice(at, 1)[0]!.answer(error, addresses);
    },
  };
}

function start(options: NameLookupsOptions) {
  const system = scripted();
  const lookups = new NameLookups(system.lookup, options);
  const find = (hostname: string, family = 0) => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    lookups.find(hostname, { all: true, family }, (error, addresses) => resolve(error ?? addresses));
    return promise;
  };
  return { system, find };
}

test('a name is looked up once for all who want it, and again for those who come later', async () => {
  const { system, find } = start({ atATime: 2 });
  const both = [find('a'), find('a')];
  expect(system.names()).toEqual(['a']);
  system.answer('a', null, first);
  expect(await Promise.all(both)).toEqual([first, first]);
  const failure = new Error('ENOTFOUND');
  const later = find('a');
  system.answer('a', failure);
  expect(await later).toBe(failure);
});

test('the same name in another family is another question', () => {
  const { system, find } = start({ atATime: 2 });
  void find('a', 4);
  void find('a', 6);
  expect(system.names()).toEqual(['a', 'a']);
});

test('no more names than given are looked up at a time, the others in the order of asking', async () => {
  const { system, find } = start({ atATime: 2 });
  const found = ['a', 'b', 'c', 'd'].map((name) => find(name));
  expect(system.names()).toEqual(['a', 'b']);
  system.answer('b', null, second);
  expect(system.names()).toEqual(['a', 'c']);
  system.answer('a', null, first);
  system.answer('c', null, first);
  system.answer('d', null, second);
  expect(await Promise.all(found)).toEqual([first, second, first, second]);
});

test('a name that is not answered has the addresses of before, until the system says others', async () => {
  const { system, find } = start({ atATime: 1, patienceMs: 1 });
  const before = find('a');
  system.answer('a', null, first);
  await before;
  void find('silent');
  expect(await find('a')).toEqual(first);
  system.answer('silent', null);
  system.answer('a', null, second);
  expect(await find('a')).toEqual(second);
});

test('names that answers of an upstream lead to hold two threads of the system, and none that its own name needs', () => {
  const system = scripted();
  const guard = new AddressGuard([new URL('https://a.example'), new URL('https://b.example')], system.lookup);
  const ask = (origin: string): void => guard.lookupFor(new URL(origin))(new URL(origin).host, {}, () => undefined);
  for (let index = 0; index < 5; index += 1) ask(`https://x${index}.example`);
  for (let index = 0; index < 5; index += 1) for (const name of ['a', 'b']) ask(`https://${name}.example`);
  expect(system.names()).toEqual(['x0.example', 'x1.example', 'a.example', 'b.example']);
});

test('a name that has waited for its turn too long is not looked up any more', async () => {
  const { system, find } = start({ atATime: 1 });
  void find('silent');
  const late = find('late');
  const now = vi.spyOn(performance, 'now').mockReturnValue(performance.now() + 60_000);
  const fresh = find('fresh');
  system.answer('silent', null);
  now.mockRestore();
  expect(await late).toMatchObject({ code: 'ETIMEOUT' });
  expect(system.names()).toEqual(['fresh']);
  system.answer('fresh', null, first);
  expect(await fresh).toEqual(first);
});
