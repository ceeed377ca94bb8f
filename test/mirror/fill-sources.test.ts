import { describe, expect, test } from 'vitest';
import { type Source, SourceList } from '../../src/mirror/fill/sources.ts';
import { RegistryError } from '../../src/oci/error.ts';

function source(id: string, more: Partial<Source> = {}): Source {
  return {
    id,
    upstream: 'docker.io',
    repository: 'docker.io/a',
    connections: 1,
    open: () => Promise.reject(new Error('nothing is read here')),
    ...more,
  };
}

const cut = new RegistryError('cut', 'cut');
const notFound = new RegistryError('not-found', 'not here', { code: 'BLOB_UNKNOWN' });
const [a, b, c] = [source('a'), source('b'), source('c')];

function listOf(...sources: readonly Source[]) {
  const list = new SourceList();
  list.add(sources);
  const next = (options: Partial<Parameters<SourceList['next']>[0]> = {}) =>
    list.next({ patience: 8, ranged: false, ...options })?.id;
  return { list, next };
}

describe('the next source', () => {
  test('is the first of those that were brought along, each of them once', () => {
    const { list, next } = listOf(a, b);
    list.add([source('a', { connections: 9 }), c]);
    expect(list.all).toEqual([a, b, c]);
    expect([next(), next({ except: new Set([a]) }), next({ except: new Set([a, b, c]) })]).toEqual([
      'a',
      'b',
      undefined,
    ]);
    expect(new SourceList().maxBytes).toBe(Number.POSITIVE_INFINITY);
    expect(new SourceList(5).maxBytes).toBe(5);
  });

  test('is the other one after two failures in a row of the first', () => {
    const { list, next } = listOf(a, b);
    list.failed(a, cut);
    expect(next()).toBe('a');
    list.failed(a, cut);
    expect(next()).toBe('b');
    list.failed(b, cut);
    list.failed(b, cut);
    expect(next()).toBe('a');
    list.progressed(b);
    expect(next()).toBe('b');
  });

  test('is each of them once before any again, where little patience is allowed', () => {
    const { list, next } = listOf(a, b);
    list.failed(a, cut);
    expect(next({ patience: 2 })).toBe('b');
    expect(next({ patience: 3 })).toBe('a');
    list.failed(b, cut);
    list.failed(a, cut);
    expect([next({ patience: 2 }), next({ patience: 1 })]).toEqual(['b', undefined]);
  });

  test('is none that has said no, or whose failure is final', () => {
    const { list, next } = listOf(a, b, c);
    list.failed(a, notFound);
    list.failed(b, cut, { isFinal: true });
    expect(next()).toBe('c');
    list.condemn(c, cut);
    expect(next()).toBeUndefined();
    expect([list.hasRanged, list.hasOther(a)]).toEqual([false, false]);
  });

  test('is a slow one only where none of the others is left', () => {
    const { list, next } = listOf(a, b);
    list.slowed(a, cut);
    expect(next()).toBe('b');
    for (let count = 0; count < 8; count += 1) list.failed(b, cut);
    expect(next()).toBe('a');
    expect(list.errorFor('docker.io/a')).toBe(cut);
  });

  test('gives parts where parts are wanted', () => {
    const { list, next } = listOf(source('a', { connections: 5 }), b);
    expect([list.connections, list.hasRanged]).toEqual([5, true]);
    list.noteIgnoredRange(a);
    expect([next(), next({ ranged: true })]).toEqual(['a', 'b']);
    expect([list.connections, list.hasRanged]).toEqual([1, true]);
    list.noteIgnoredRange(b);
    expect([next({ ranged: true }), list.hasRanged, list.connections]).toEqual([undefined, false, 1]);
  });

  test('is no replica where those are left out', () => {
    const { next } = listOf(source('r', { replica: 'r' }), a);
    expect([next(), next({ withoutReplicas: true })]).toEqual(['r', 'a']);
  });
});

test('another source is one that is neither a replica, slow, useless, nor without parts', () => {
  const replica = source('r', { replica: 'r' });
  const { list } = listOf(a, b, replica);
  expect([list.hasOther(a), list.hasOther(b)]).toEqual([true, true]);
  list.slowed(b, cut);
  expect([list.hasOther(a), list.hasOther(b)]).toEqual([false, true]);
  list.noteIgnoredRange(a);
  expect(list.hasOther(b)).toBe(false);
});

describe('the error that waiting clients get', () => {
  const limited = new RegistryError('limited', 'later');

  test('is what the sources of their repository said, a failure before a no', () => {
    const { list } = listOf(a, b, source('x', { repository: 'quay.io/x' }));
    list.failed(source('x'), limited);
    list.failed(a, notFound);
    expect(list.errorFor('docker.io/a')).toBe(notFound);
    list.failed(b, cut);
    expect(list.errorFor('docker.io/a')).toBe(cut);
    expect(list.errorFor('quay.io/x')).toBe(limited);
    expect(list.errorFor('ghcr.io/y')).toBe(cut);
  });

  test('is an error of ours where there is no other, and never nothing', () => {
    const { list } = listOf(a, b);
    expect(list.errorFor('docker.io/a')).toMatchObject({ reason: 'no-source' });
    const bug = new TypeError('bug');
    list.failed(a, bug, { isFinal: true });
    expect(list.errorFor('docker.io/a')).toBe(bug);
    list.failed(b, notFound);
    expect(list.errorFor('docker.io/a')).toBe(notFound);
  });

  test('is a cut where a source has given a part and then says that it has nothing', () => {
    const { list } = listOf(a);
    list.progressed(a);
    list.failed(a, notFound);
    expect(list.errorFor('docker.io/a')).toMatchObject({ reason: 'cut', cause: notFound });
    const other = listOf(a);
    other.list.refused(a, limited);
    expect([other.list.errorFor('docker.io/a'), other.next()]).toEqual([limited, 'a']);
  });
});

test('sources that refused to go on at an offset get another chance, and no others', () => {
  const { list, next } = listOf(a, b);
  const range = new RegistryError('range-refused', '416');
  list.failed(a, range, { isFinal: true });
  list.failed(b, notFound);
  expect(next()).toBeUndefined();
  expect([list.forgiveRefusedRanges(), list.forgiveRefusedRanges()]).toEqual([true, false]);
  expect([next(), list.errorFor('docker.io/a')]).toEqual(['a', notFound]);
});
