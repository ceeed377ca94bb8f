import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { BlobInquiry, type BlobInquiryOptions } from '../../src/mirror/blob-inquiry.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/error.ts';
import { type Repository, repositoryOf } from '../../src/upstream/repository.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';
import { MemoryStore } from '../support/memory-store.ts';

const small = randomBytes(64 * 1024);
const large = randomBytes(64 * 1024 + 1);
const { signal } = new AbortController();
const down = new RegistryError('unreachable', 'down');
const absent = new RegistryError('not-found', 'not here');

interface Asked {
  readonly offset?: number;
  readonly end?: number;
}

type Endpoint = (asked: Asked) => { start: number; end: number; bytes: readonly Buffer[] };

const failing =
  (error: Error): Endpoint =>
  () => {
    throw error;
  };

/** Gives these bytes, and parts of them where they are asked for. */
const giving =
  (content: Buffer): Endpoint =>
  ({ offset = 0, end = content.length }) => ({
    start: offset,
    end,
    bytes: [content.subarray(offset, offset + 1000), content.subarray(offset + 1000, end)],
  });

/** Compares what is stored with what the URLs of an upstream give. */
async function compare(stored: Buffer, ...endpoints: Endpoint[]) {
  const store = new MemoryStore();
  await store.put(digestOf(stored), stored);
  const asked: Asked[] = [];
  const bodies: Readable[] = [];
  const upstream = {
    name: 'docker.io',
    client: {
      endpoints: endpoints.map((endpoint) => ({
        openBlob: async (_name: string, _digest: string, { offset, end }: Asked) => {
          asked.push({ ...(offset !== undefined && { offset }), ...(end !== undefined && { end }) });
          const { bytes, ...place } = endpoint({
            ...(offset !== undefined && { offset }),
            ...(end !== undefined && { end }),
          });
          const body = Readable.from(bytes);
          bodies.push(body);
          return await Promise.resolve({ ...place, size: stored.length, contentType: 'a/b', body });
        },
      })),
      headBlob: async () => await Promise.resolve({ size: 7, contentType: 'a/b' }),
    },
  };
  const repository: Repository = repositoryOf(upstream as unknown as Upstream, 'library/app');
  const catalog = { grants: { expectedSize: () => undefined } };
  const inquiry = new BlobInquiry({ store, catalog } as unknown as BlobInquiryOptions);
  const isSame = inquiry.compare(repository, digestOf(stored), signal);
  return { asked, bodies, isSame };
}

const changed = (content: Buffer, position: number): Buffer => {
  const copy = Buffer.from(content);
  copy[position]! ^= 1;
  return copy;
};

describe('a small blob', () => {
  test('is compared whole', async () => {
    const { asked, isSame, bodies } = await compare(small, giving(small));
    expect(await isSame).toBe(true);
    expect([asked, bodies.map(({ destroyed }) => destroyed)]).toEqual([[{}], [true]]);
    for (const position of [0, 1500, small.length - 1]) {
      const other = await compare(small, giving(changed(small, position)));
      expect(await other.isSame).toBe(false);
      expect(other.bodies[0]?.destroyed).toBe(true);
    }
  });

  test('is another one where it has more bytes, or fewer', async () => {
    expect(await (await compare(small, giving(Buffer.concat([small, Buffer.alloc(1)])))).isSame).toBe(false);
    expect(await (await compare(small, giving(small.subarray(0, -1)))).isSame).toBe(false);
    expect(await (await compare(Buffer.alloc(0), giving(Buffer.alloc(0)))).isSame).toBe(true);
  });

  test('is read at the first URL that gives it; none has it if one says so and the others cannot answer', async () => {
    const { asked, isSame } = await compare(small, failing(down), giving(small), giving(large));
    expect([await isSame, asked.length]).toEqual([true, 2]);
    for (const endpoints of [
      [failing(absent), failing(down)],
      [failing(down), failing(absent)],
    ]) {
      await expect((await compare(small, ...endpoints)).isSame).rejects.toBe(down);
    }
    await expect((await compare(small, failing(absent))).isSame).rejects.toBe(absent);
    const bug = new TypeError('bug');
    const broken = await compare(small, failing(bug), giving(small));
    await expect(broken.isSame).rejects.toBe(bug);
    expect(broken.asked).toHaveLength(1);
  });
});

describe('a large blob', () => {
  test('is compared in four places of 4 KiB', async () => {
    const { asked, isSame, bodies } = await compare(large, giving(large));
    expect(await isSame).toBe(true);
    expect(asked).toHaveLength(4);
    for (const { offset, end } of asked) {
      expect(offset).toBeGreaterThanOrEqual(0);
      expect(end).toBeLessThanOrEqual(large.length);
      expect(end! - offset!).toBe(4096);
    }
    expect(bodies.every(({ destroyed }) => destroyed)).toBe(true);
    expect(await (await compare(large, giving(randomBytes(large.length)))).isSame).toBe(false);
  });

  test('cannot be compared where the upstream gives no parts of it', async () => {
    const whole: Endpoint = () => ({ start: 0, end: large.length, bytes: [large] });
    const { asked, isSame, bodies } = await compare(large, whole);
    expect(await isSame).toBeUndefined();
    expect([asked.length, bodies[0]?.destroyed]).toEqual([1, true]);
    const longer: Endpoint = ({ offset = 0, end = 0 }) => ({ start: offset, end: end + 1, bytes: [] });
    expect(await (await compare(large, longer)).isSame).toBeUndefined();
    let count = 0;
    const once: Endpoint = (place) => ((count += 1) > 1 ? whole(place) : giving(large)(place));
    expect(await (await compare(large, once)).isSame).toBeUndefined();
    let others = 0;
    const first: Endpoint = (place) =>
      (others += 1) > 1 ? giving(randomBytes(large.length))(place) : giving(large)(place);
    expect(await (await compare(large, first)).isSame).toBe(false);
  });
});
