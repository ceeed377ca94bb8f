import { describe, expect, test } from 'vitest';
import { Generations } from '../../src/front/generations.ts';
import { Completeness } from '../../src/mirror/completeness.ts';
import { KeptManifests, type KeptManifestsOptions } from '../../src/mirror/kept-manifests.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { emptyBlob, emptyBlobDigest } from '../../src/oci/empty-blob.ts';
import { nothingRemoved } from '../../src/oci/facts.ts';
import { DiskFault } from '../../src/store/files/blob-store.ts';
import { repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';

const manifestType = 'application/vnd.oci.image.manifest.v1+json';
const indexType = 'application/vnd.oci.image.index.v1+json';
const fault = new DiskFault('the disk fails', { cause: new Error('EIO') });
const of = (text: string) => digestOf(Buffer.from(text));

interface Part {
  readonly mediaType?: string;
  readonly digest: Digest;
  readonly size: number;
  readonly urls?: string[];
}

const part = (text: string, mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip', more: object = {}): Part => ({
  mediaType,
  digest: of(text),
  size: text.length,
  ...more,
});
const empty: Part = { mediaType: 'application/vnd.oci.empty.v1+json', digest: emptyBlobDigest, size: emptyBlob.length };

function imageOf(config: Part, layers: readonly Part[], more: object = {}) {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: manifestType, config, layers, ...more }));
  return { digest: digestOf(bytes), size: bytes.length, contentType: manifestType, bytes };
}

function indexOf(manifests: readonly { digest: Digest; size: number }[]) {
  const listed = manifests.map(({ digest, size }) => ({ mediaType: manifestType, digest, size }));
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: listed }));
  return { digest: digestOf(bytes), size: bytes.length, contentType: indexType, bytes };
}

type Manifest = ReturnType<typeof imageOf>;

/** A cache that has some blobs (by text) and manifests. */
function cacheWith(blobs: readonly string[], manifests: readonly Manifest[] = [], others?: readonly string[]) {
  const sizes = new Map<string, number>(blobs.map((text) => [of(text), text.length]));
  const changes = new Generations();
  const state = {
    unreadable: new Set<string>(),
    broken: new Set<string>(),
    opened: [] as string[],
    closed: 0,
    changes,
  };
  let onOpen = (): void => undefined;
  const options = {
    changes,
    store: {
      open: (digest: string) => {
        state.opened.push(digest);
        onOpen();
        if (state.broken.has(digest)) return Promise.reject(fault);
        const size = sizes.get(digest);
        if (size === undefined) return Promise.resolve(undefined);
        return Promise.resolve({ size, [Symbol.asyncDispose]: () => Promise.resolve((state.closed += 1)) });
      },
    },
    catalog: { grants: { isReadable: (_: string, digest: string) => !state.unreadable.has(digest) } },
    kept: { peek: (digest: string) => Promise.resolve(manifests.find((one) => one.digest === digest)) },
    ...(others && { isWithOthers: (digest: string) => Promise.resolve(others.map(of).includes(digest as Digest)) }),
  };
  const completeness = new Completeness(options as unknown as ConstructorParameters<typeof Completeness>[0]);
  const missing = async (manifest: Manifest) =>
    (await Array.fromAsync(completeness.missing('r', manifest))).map(({ digest }) => digest);
  const whenOpened = (work: () => void): void => void (onOpen = work);
  return { completeness, state, missing, whenOpened };
}

describe('an image that was found whole', () => {
  const image = imageOf(part('config', 'application/vnd.oci.image.config.v1+json'), [part('one')]);
  const index = indexOf([image]);

  test('is looked at again only after something has been removed', async () => {
    const { completeness, state } = cacheWith(['config', 'one'], [image]);
    expect(completeness.isKnownWhole('r', image.digest)).toBe(false);
    expect(await completeness.firstMissing('r', image)).toBeUndefined();
    expect(state.opened).toHaveLength(2);
    expect(completeness.isKnownWhole('r', image.digest)).toBe(true);
    expect(await completeness.firstMissing('r', image)).toBeUndefined();
    expect(await completeness.isWhole('r', image)).toBe(true);
    expect(state.opened).toHaveLength(2);
    state.changes.changed(nothingRemoved);
    expect(completeness.isKnownWhole('r', image.digest)).toBe(false);
    state.unreadable.add(of('one'));
    expect(await completeness.firstMissing('r', image)).toMatchObject({ digest: of('one') });
    expect(completeness.isKnownWhole('r', image.digest)).toBe(false);
  });

  test('is so in its repository alone, and also as a part of an index', async () => {
    const { completeness, state } = cacheWith(['config', 'one'], [image]);
    expect(await completeness.firstMissing('r', index)).toBeUndefined();
    expect(completeness.isKnownWhole('r', index.digest)).toBe(true);
    expect(completeness.isKnownWhole('other', index.digest)).toBe(false);
    state.changes.changedAll();
    expect(completeness.isKnownWhole('r', index.digest)).toBe(false);
  });

  test('is not remembered when something was removed while it was looked at', async () => {
    const { completeness, state, whenOpened } = cacheWith(['config', 'one'], [image]);
    whenOpened(() => state.changes.changed(nothingRemoved));
    expect(await completeness.firstMissing('r', image)).toBeUndefined();
    expect(completeness.isKnownWhole('r', image.digest)).toBe(false);
  });

  test('is not remembered when another replica has a part of it', async () => {
    const { completeness } = cacheWith(['config'], [image], ['one']);
    expect(await completeness.firstMissing('r', image)).toBeUndefined();
    expect(completeness.isKnownWhole('r', image.digest)).toBe(false);
  });
});

describe('what is missing of an image', () => {
  const image = imageOf(part('config', 'application/vnd.oci.image.config.v1+json'), [part('one'), part('two')]);

  test('is every part that is not here in its size, or may not be read', async () => {
    expect(await cacheWith(['config', 'one', 'two']).missing(image)).toEqual([]);
    expect(await cacheWith(['one']).missing(image)).toEqual([of('config'), of('two')]);
    const hidden = cacheWith(['config', 'one', 'two']);
    hidden.state.unreadable.add(of('one'));
    hidden.state.broken.add(of('two'));
    expect(await hidden.missing(image)).toEqual([of('one'), of('two')]);
    expect(hidden.state.closed).toBe(2);
    const other = imageOf(part('config'), [{ ...part('one'), size: 9 }]);
    expect(await cacheWith(['config', 'one']).missing(other)).toEqual([of('one')]);
  });

  test('is not what other replicas have, where it may be read', async () => {
    const cache = cacheWith(['config'], [], ['one']);
    expect(await cache.missing(image)).toEqual([of('two')]);
    cache.state.unreadable.add(of('one'));
    expect(await cache.missing(image)).toEqual([of('one'), of('two')]);
  });

  test('is neither the empty blob nor a layer that is elsewhere', async () => {
    const foreign = part('foreign', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', {
      urls: ['https://x/y'],
    });
    expect(await cacheWith(['one']).missing(imageOf(empty, [part('one'), foreign]))).toEqual([]);
    expect(await cacheWith([]).missing(imageOf(part('config'), [empty]))).toEqual([of('config')]);
    const subject = { mediaType: manifestType, digest: of('s'), size: 1 };
    const attached = imageOf(part('config'), [empty, part('one', 'text/spdx+json')], { subject });
    expect(await cacheWith([]).missing(attached)).toEqual([of('one')]);
  });

  test.each([
    ['application/vnd.dev.cosign.simplesigning.v1+json', {}, false],
    ['application/vnd.dsse.envelope.v1+json', {}, false],
    ['application/vnd.in-toto+json', {}, false],
    ['application/vnd.cncf.notary.signature', {}, false],
    ['application/jose+json', {}, false],
    ['application/cose', {}, false],
    ['application/x+vnd.dev.cosign', {}, true],
    ['text/spdx+json', {}, true],
    ['text/spdx+json', { subject: { mediaType: manifestType, digest: of('s'), size: 1 } }, false],
    [
      'application/vnd.oci.image.layer.v1.tar',
      { subject: { mediaType: manifestType, digest: of('s'), size: 1 } },
      true,
    ],
    [
      'application/vnd.docker.image.rootfs.diff.tar',
      { subject: { mediaType: manifestType, digest: of('s'), size: 1 } },
      true,
    ],
  ])('with a layer of %s and %j includes its config: %s', async (type, more, isNeeded) => {
    const signature = imageOf(part('config'), [part('one', type)], more);
    expect(await cacheWith(['one']).missing(signature)).toEqual(isNeeded ? [of('config')] : []);
    expect(await cacheWith([]).missing(signature)).toEqual(isNeeded ? [of('config'), of('one')] : [of('one')]);
    const mixed = imageOf(part('config'), [part('one', type), part('two')], more);
    expect(await cacheWith(['one', 'two']).missing(mixed)).toEqual([of('config')]);
  });

  test('without layers is its config', async () => {
    expect(await cacheWith([]).missing(imageOf(part('config'), []))).toEqual([of('config')]);
  });
});

describe('an index', () => {
  const whole = imageOf(part('config'), [part('one')]);
  const lacking = imageOf(part('config'), [part('two')]);

  test('lacks nothing as long as one of its images is whole', async () => {
    const cache = cacheWith(['config', 'one'], [whole, lacking]);
    expect(await cache.missing(indexOf([lacking, whole]))).toEqual([]);
    expect(await cache.missing(indexOf([lacking]))).toEqual([lacking.digest]);
    expect(await cache.completeness.isWhole('r', whole)).toBe(true);
    expect(await cache.completeness.isWhole('r', lacking)).toBe(false);
    expect(await cache.completeness.isWhole('r', { digest: of('unknown') })).toBe(false);
    cache.state.unreadable.add(whole.digest);
    expect(await cache.completeness.isWhole('r', whole)).toBe(false);
  });

  test('is followed to its fifth level, and each image looked at once', async () => {
    const levels = [whole];
    for (let level = 0; level < 6; level += 1) levels.push(indexOf([levels.at(-1)!]));
    const cache = cacheWith(['config', 'one'], levels);
    const isWhole = (level: number) => cache.completeness.isWhole('r', levels[level]!);
    expect([await isWhole(4), await isWhole(5)]).toEqual([true, false]);
    const twice = cacheWith(['config', 'two'], [whole]);
    await twice.missing(indexOf([whole, whole, whole]));
    expect(twice.state.opened).toEqual([of('config'), of('one')]);
  });
});

describe('a manifest', () => {
  const image = imageOf(part('config'), [part('one')]);

  function keptWith({
    small = undefined as Buffer | undefined,
    put = undefined as Error | undefined,
    type = manifestType,
  } = {}) {
    const state = {
      has: true,
      touched: 0,
      read: image.bytes as Buffer | Error | undefined,
      events: [] as object[],
      recorded: [] as object[],
    };
    const options = {
      store: {
        small: () => small,
        read: () => (state.read instanceof Error ? Promise.reject(state.read) : Promise.resolve(state.read)),
        put: () => (put ? Promise.reject(put) : Promise.resolve()),
        open: () => Promise.resolve(undefined),
      },
      catalog: {
        blobs: { get: () => (type === '' ? undefined : { contentType: type }) },
        manifests: {
          has: () => state.has,
          prepare: () => Promise.resolve(),
          record: (_: string, manifest: object) => state.recorded.push(manifest),
        },
        uses: { touch: () => (state.touched += 1) },
      },
      report: (event: object) => state.events.push(event),
    };
    const kept = new KeptManifests(options as unknown as KeptManifestsOptions);
    const repository = repositoryOf({ name: 'docker.io' } as unknown as Upstream, 'library/app');
    const keep = (answer: object = {}, digest: Digest | undefined = image.digest, more: object = {}) =>
      kept.keep(
        repository,
        { bytes: image.bytes, contentType: manifestType, digest: undefined, ...answer },
        digest,
        more,
      );
    return { kept, state, keep };
  }

  test('is at hand where it is in memory and known', () => {
    const { kept, state } = keptWith({ small: image.bytes });
    expect(kept.inMemory(image.digest)).toEqual(image);
    expect(state.touched).toBe(1);
    state.has = false;
    expect(kept.inMemory(image.digest)).toBeUndefined();
    expect(keptWith().kept.inMemory(image.digest)).toBeUndefined();
    expect(keptWith({ small: image.bytes, type: '' }).kept.inMemory(image.digest)).toBeUndefined();
    expect(state.touched).toBe(1);
  });

  test('is read, and its use noted but where it is only looked at', async () => {
    const { kept, state } = keptWith();
    expect(await kept.peek(image.digest)).toEqual(image);
    expect(state.touched).toBe(0);
    expect(await kept.get(image.digest)).toEqual(image);
    expect(state.touched).toBe(1);
  });

  test('is not here where its bytes or its type are not, or the disk fails', async () => {
    const { kept, state } = keptWith();
    state.read = undefined;
    expect(await kept.get(image.digest)).toBeUndefined();
    state.read = fault;
    expect(await kept.get(image.digest)).toBeUndefined();
    expect([state.events, state.touched]).toEqual([[{ kind: 'disk-fault', error: fault }], 0]);
    state.read = new TypeError('bug');
    await expect(kept.get(image.digest)).rejects.toThrow('bug');
    expect(await keptWith({ type: '' }).kept.get(image.digest)).toBeUndefined();
  });

  test('is kept as it came, with its exact type', async () => {
    const { keep, state } = keptWith();
    const contentType = `${manifestType}; charset=utf-8`;
    expect(await keep({ contentType })).toEqual({ manifest: { ...image, contentType }, isKept: true });
    expect(state.recorded).toMatchObject([
      { repository: 'docker.io/library/app', source: 'upstream', size: image.size, contentType },
    ]);
    expect(state.events).toEqual([{ kind: 'manifest-received', upstream: 'docker.io', bytes: image.size }]);
    const shared = keptWith();
    await shared.keep({}, image.digest, { isShared: true });
    expect([shared.state.recorded, shared.state.events]).toMatchObject([[{ source: 'replica' }], []]);
  });

  test.each([
    'application/json',
    'application/octet-stream',
    'binary/octet-stream',
    'text/html',
    'text/json',
    'text/plain',
    '',
  ])('that comes as "%s" has the type that it states', async (contentType) => {
    const { manifest } = await keptWith().keep({ contentType });
    expect(manifest.contentType).toBe(manifestType);
  });

  test('of other bytes is refused', async () => {
    const { keep, state } = keptWith();
    await expect(keep({}, of('other'))).rejects.toMatchObject({
      reason: 'wrong-bytes',
      detail: { expected: of('other'), actual: image.digest },
    });
    expect(state.recorded).toEqual([]);
  });

  test('that cannot be read is passed on where its digest is right, and refused where nothing tells it', async () => {
    const bytes = Buffer.from('text');
    const { keep, state } = keptWith();
    const digest = digestOf(bytes);
    expect(await keep({ bytes, contentType: 'x/y' }, digest)).toEqual({
      manifest: { digest, size: 4, contentType: 'x/y', bytes },
      isKept: false,
    });
    expect((await keep({ bytes, contentType: '' }, digest)).manifest.contentType).toBe('application/octet-stream');
    expect(state.recorded).toEqual([]);
    await expect(
      keptWith().kept.keep(
        repositoryOf({ name: 'docker.io' } as unknown as Upstream, 'a'),
        { bytes, contentType: 'x/y', digest: undefined },
        undefined,
      ),
    ).rejects.toMatchObject({ reason: 'bad-answer', message: 'docker.io sent something that is not a manifest' });
  });

  test('that the disk does not take is recorded all the same', async () => {
    const { keep, state } = keptWith({ put: fault });
    expect((await keep()).isKept).toBe(true);
    expect(state.events).toContainEqual({ kind: 'disk-fault', error: fault });
    expect(state.recorded).toHaveLength(1);
    await expect(keptWith({ put: new TypeError('bug') }).keep()).rejects.toThrow('bug');
  });
});
