import { describe, expect, test, vi } from 'vitest';
import type { MissingAnswer } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { Content, type ContentOptions, type Inquiry } from '../../src/mirror/content.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { NegativeAnswers, RememberedAnswer } from '../../src/replicas/negative-answers.ts';
import { SecondHandAbsence } from '../../src/upstream/failures.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';

const digest = digestOf(Buffer.from('a blob'));
const waiting = { signal: new AbortController().signal };
const notFound = new RegistryError('not-found', 'not here', { code: 'BLOB_UNKNOWN' });
const down = new RegistryError('unreachable', 'down');

function repositoryWith({
  negativeTtlMs = 60_000,
  fingerprint = (): Promise<string> => Promise.resolve('in one way'),
} = {}): Repository {
  const upstream = { name: 'docker.io', answerMs: 60_000, freshness: { negativeTtlMs }, fingerprint };
  return repositoryOf(upstream as unknown as Upstream, 'library/app');
}

/** A coordinator with other replicas, and what they were told. */
class Others extends SoloCoordinator {
  override readonly isAlone: true = false as unknown as true;
  readonly recorded: unknown[] = [];
  readonly missed: string[] = [];
  answer: MissingAnswer | undefined;

  override missing(what?: string): Promise<MissingAnswer | undefined> {
    this.missed.push(what!);
    return Promise.resolve(this.answer);
  }

  override async recordMissing(what?: string, answer?: MissingAnswer, options?: object): Promise<void> {
    this.recorded.push([what, answer, options]);
    await Promise.resolve();
  }
}

interface State {
  readable: boolean;
  stored: boolean;
  shown: boolean;
  right: { size: number | undefined; contentType: string; isShown: boolean; access: string } | undefined;
}

/** The way to content, with a catalog, an upstream and replicas that a test writes. */
function contentWith(inquiry: Partial<Inquiry<string>> = {}, options: Partial<ContentOptions<string>> = {}) {
  const state: State = { readable: false, stored: false, shown: false, right: undefined };
  const noted: unknown[] = [];
  const asked: unknown[] = [];
  const coordinator = new Others();
  const catalog = {
    grants: { isReadable: () => state.readable },
    blobs: {
      get: () => (state.stored ? {} : undefined),
      isShown: () => state.shown,
      noteShown: (of: string, name: string) => noted.push(['shown', of, name]),
    },
    confirmations: { note: (...given: unknown[]) => noted.push(['confirmed', ...given]) },
  };
  const content = new Content<string>({
    kind: 'blob',
    catalog: catalog as unknown as ContentOptions<string>['catalog'],
    coordinator,
    questions: {
      right: (_: Repository, of: string, given: { amongHolders: boolean }) => {
        asked.push([of, given.amongHolders]);
        return Promise.resolve(given.amongHolders && state.right?.access === 'of any' ? undefined : state.right);
      },
    } as unknown as ContentOptions<string>['questions'],
    offline: false,
    now: () => 0,
    gone: { note: () => undefined, isDoubtful: () => false } as unknown as ContentOptions<string>['gone'],
    grant: (repository, of) => void noted.push(['granted', repository, of]),
    ...options,
    inquiry: {
      ask: () => Promise.resolve('head'),
      compare: () => Promise.resolve(true),
      vouched: ({ size }) => `vouched ${size}`,
      ...inquiry,
    },
  });
  return { content, state, noted, asked, coordinator };
}

const key = 'docker.io/library/app';
const granted = ['granted', key, digest];
const shown = ['shown', digest, 'docker.io'];
const confirmed = ['confirmed', key, digest, 'in one way'];

describe('the right to read', () => {
  test('is asked for where it is not known', async () => {
    const { content, state, noted } = contentWith();
    state.readable = true;
    expect(await content.requireRight(repositoryWith(), digest, waiting)).toBe(true);
    expect(noted).toEqual([]);
    state.readable = false;
    expect(await content.requireRight(repositoryWith(), digest, waiting)).toBe(true);
    expect(noted).toEqual([granted, confirmed]);
  });

  test('to bytes of another upstream is shown by comparing them', async () => {
    const { content, state, noted } = contentWith();
    state.stored = true;
    expect(await content.requireRight(repositoryWith(), digest, waiting)).toBe(true);
    expect(noted).toEqual([shown, granted]);
    noted.length = 0;
    state.shown = true;
    expect(await content.requireRight(repositoryWith(), digest, waiting)).toBe(true);
    expect(noted).toEqual([granted, confirmed]);
  });

  test('is not shown where all would have to be fetched, nor by other bytes', async () => {
    const unknown = contentWith({ compare: () => Promise.resolve(undefined) });
    unknown.state.stored = true;
    expect(await unknown.content.requireRight(repositoryWith(), digest, waiting)).toBe(false);
    const other = contentWith({ compare: () => Promise.resolve(false) });
    await expect(other.content.requireShown(repositoryWith(), digest, waiting)).rejects.toMatchObject({
      reason: 'wrong-bytes',
      message: `upstream docker.io gives other bytes than those of ${digest}`,
    });
    expect([unknown.noted, other.noted]).toEqual([[], []]);
  });

  test('is shown by the word of a replica that has been shown, where the upstream cannot answer', async () => {
    const { content, state, noted, asked } = contentWith({ compare: () => Promise.reject(down) });
    await expect(content.requireShown(repositoryWith(), digest, waiting)).rejects.toBe(down);
    state.right = { size: 1, contentType: 'a/b', isShown: false, access: 'x' };
    await expect(content.requireShown(repositoryWith(), digest, waiting)).rejects.toBe(down);
    state.right = { ...state.right, isShown: true };
    expect(await content.requireShown(repositoryWith(), digest, waiting)).toBe(true);
    expect(noted.slice(2)).toEqual([shown, granted, ['confirmed', key, digest, 'x']]);
    expect(asked.at(-1)).toEqual([digest, false]);
    const no = contentWith({ compare: () => Promise.reject(notFound) });
    no.state.right = state.right;
    await expect(no.content.requireShown(repositoryWith(), digest, waiting)).rejects.toBe(notFound);
    expect(no.asked).toEqual([]);
  });
});

describe('a confirmation', () => {
  test('is that of the upstream', async () => {
    const { content, noted, asked } = contentWith();
    expect(await content.confirm(repositoryWith(), digest, waiting)).toBe('head');
    expect([noted, asked]).toEqual([[granted, confirmed], [[digest, true]]]);
  });

  test('is the word of a replica that has the content, or of any where the upstream cannot answer', async () => {
    const ask = vi.fn(() => Promise.reject(down));
    const { content, state } = contentWith({ ask });
    state.right = { size: 5, contentType: 'a/b', isShown: false, access: 'x' };
    expect(await content.confirm(repositoryWith(), digest, waiting)).toBe('vouched 5');
    expect(ask).not.toHaveBeenCalled();
    state.right = { ...state.right, access: 'of any' };
    expect(await content.confirm(repositoryWith(), digest, waiting)).toBe('vouched 5');
    state.right = undefined;
    await expect(content.confirm(repositoryWith(), digest, waiting)).rejects.toBe(down);
    expect(await content.isVouched(repositoryWith(), digest, { amongHolders: true, ...waiting })).toBe(false);
  });

  test('is not the word of a replica where the upstream says no', async () => {
    const { content, state, asked } = contentWith({ ask: () => Promise.reject(notFound) });
    state.right = { size: 5, contentType: 'a/b', isShown: false, access: 'of any' };
    await expect(content.confirm(repositoryWith(), digest, waiting)).rejects.toBe(notFound);
    await expect(content.confirm(repositoryWith(), digest, waiting)).rejects.toBeInstanceOf(RememberedAnswer);
    // What the upstream has just said counts for more.
    expect(asked).toEqual([[digest, true]]);
  });

  test('is noted for others only where the upstream is still asked in the same way', async () => {
    const ways = ['in one way', 'in another way', 'in that way'];
    const { content, noted } = contentWith();
    const repository = repositoryWith({ fingerprint: () => Promise.resolve(ways.shift()!) });
    await content.confirm(repository, digest, waiting);
    expect(noted).toEqual([granted]);
    await content.noteConfirmed(repository, digest);
    expect(noted[1]).toEqual(['confirmed', key, digest, 'in that way']);
    const secret = repositoryWith({ fingerprint: () => Promise.reject(new RegistryError('no-credentials', 'x')) });
    await content.noteConfirmed(secret, digest);
    expect(noted).toHaveLength(2);
  });

  test('is asked for once for all who want it at once', async () => {
    const { promise, resolve } = Promise.withResolvers<string>();
    const ask = vi.fn(() => promise);
    const { content } = contentWith({ ask });
    const both = [content.ask(repositoryWith(), digest, waiting), content.ask(repositoryWith(), digest, waiting)];
    resolve('head');
    expect([await Promise.all(both), ask.mock.calls.length]).toEqual([['head', 'head'], 1]);
  });
});

describe('offline', () => {
  test.each([
    ['blob', `this mirror is offline and has not stored this blob for ${key}`, 'BLOB_UNKNOWN'],
    ['manifest', `this mirror is offline and has not stored ${key}@${digest}`, 'MANIFEST_UNKNOWN'],
  ] as const)('nothing is asked for a %s', async (kind, message, code) => {
    const { content, asked } = contentWith({}, { offline: true, kind });
    const expected = { reason: 'offline', message, code };
    const repository = repositoryWith();
    await expect(content.confirm(repository, digest, waiting)).rejects.toMatchObject(expected);
    await expect(content.ask(repository, digest, waiting)).rejects.toMatchObject(expected);
    await expect(content.requireShown(repository, digest, waiting)).rejects.toMatchObject(expected);
    const work = vi.fn(() => Promise.resolve(1));
    await expect(content.fetch(repository, digest, { work })).rejects.toMatchObject(expected);
    expect(await content.isVouched(repository, digest, { amongHolders: true, ...waiting })).toBe(false);
    expect([asked, work.mock.calls]).toEqual([[], []]);
  });
});

describe('what an upstream does not have', () => {
  test('is not fetched again for a while, nor what was asked with something else', async () => {
    const { content } = contentWith();
    const fails = () => Promise.reject(notFound);
    await expect(content.fetch(repositoryWith(), digest, { work: fails, how: 'x' })).rejects.toBe(notFound);
    const work = () => Promise.resolve('here');
    await expect(content.fetch(repositoryWith(), digest, { work, how: 'x' })).rejects.toBeInstanceOf(RememberedAnswer);
    expect(await content.fetch(repositoryWith(), digest, { work })).toBe('here');
    await expect(content.fetch(repositoryWith(), digest, { work: fails })).rejects.toBe(notFound);
    await expect(content.ask(repositoryWith(), digest, waiting)).rejects.toBeInstanceOf(RememberedAnswer);
  });

  const negativeWith = (coordinator = new Others()) => {
    const time = { now: 1_000 };
    return { time, coordinator, negative: new NegativeAnswers({ now: () => time.now, coordinator, kind: 'blob' }) };
  };

  test('is remembered as long as the upstream’s times say, as it was said', async () => {
    const { negative, time } = negativeWith();
    const error = new RegistryError('not-found', 'no', { code: 'NAME_UNKNOWN', detail: { a: 1 }, headers: { x: 'y' } });
    negative.note(repositoryWith({ negativeTtlMs: 500 }), 'x', error);
    const known = negative.get(repositoryWith(), 'x');
    expect(known).toBeInstanceOf(RememberedAnswer);
    const { reason, message, code, status, detail, headers } = error;
    expect(known).toMatchObject({ reason, message, code, status, detail, headers });
    expect(negative.get(repositoryWith(), 'y')).toBeUndefined();
    time.now += 500;
    expect(negative.get(repositoryWith(), 'x')).toBeDefined();
    time.now += 1;
    // The cache looks at the clock once in a millisecond.
    await expect.poll(() => negative.get(repositoryWith(), 'x')).toBeUndefined();
    negative.note(repositoryWith(), 'x', error);
    negative.forget(repositoryWith(), 'x');
    expect(negative.get(repositoryWith(), 'x')).toBeUndefined();
  });

  test.each<[string, unknown, number]>([
    ['anything but a 404', down, 60_000],
    ['what is no error of ours', new Error('x'), 60_000],
    ['what was remembered already', new RememberedAnswer(notFound), 60_000],
    ['what another mirror remembers', new SecondHandAbsence('not-found', 'x', { code: 'BLOB_UNKNOWN' }), 60_000],
    ['anything where nothing is to be remembered', notFound, 0],
  ])('is not %s', async (_, error, negativeTtlMs) => {
    const { negative, coordinator } = negativeWith();
    negative.note(repositoryWith({ negativeTtlMs }), 'x', error);
    await new Promise(setImmediate);
    expect([negative.get(repositoryWith(), 'x'), coordinator.recorded]).toEqual([undefined, []]);
  });

  test('is shared with the replicas that ask the upstream in the same way', async () => {
    const { negative, coordinator } = negativeWith();
    negative.note(repositoryWith(), 'x', notFound);
    const name = `blob in one way ${key} x`;
    await expect
      .poll(() => coordinator.recorded)
      .toEqual([[name, { code: 'BLOB_UNKNOWN', message: 'not here' }, { forMs: 60_000 }]]);
    expect(await negative.lookUp(repositoryWith(), 'x')).toBeInstanceOf(RememberedAnswer);
    expect(coordinator.missed).toEqual([]);
    expect(await negative.lookUp(repositoryWith(), 'y')).toBeUndefined();
    coordinator.answer = { code: 'NAME_UNKNOWN', message: 'no' };
    expect(await negative.lookUp(repositoryWith(), 'y')).toMatchObject({
      reason: 'not-found',
      code: 'NAME_UNKNOWN',
      message: 'no',
    });
    expect(coordinator.missed).toEqual([`blob in one way ${key} y`, `blob in one way ${key} y`]);
    const secret = repositoryWith({ fingerprint: () => Promise.reject(new RegistryError('no-credentials', 'x')) });
    expect(await negative.lookUp(repositoryWith({ negativeTtlMs: 0 }), 'y')).toBeUndefined();
    expect(await negative.lookUp(secret, 'y')).toBeUndefined();
    expect(coordinator.missed).toHaveLength(2);
  });

  test('is looked up nowhere else by a replica alone', async () => {
    const negative = new NegativeAnswers({ now: () => 0, coordinator: new SoloCoordinator(), kind: 'blob' });
    const fingerprint = vi.fn(() => Promise.resolve('x'));
    expect(await negative.lookUp(repositoryWith({ fingerprint }), 'y')).toBeUndefined();
    negative.note(repositoryWith({ fingerprint }), 'y', notFound);
    expect(fingerprint).not.toHaveBeenCalled();
  });
});
