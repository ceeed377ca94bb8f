import { gzipSync } from 'node:zlib';
import { type LocalManifest, localBlob, localImage, localIndex, tarArchive } from '../../support/images.ts';
import { fileOf, type LayoutFiles, layoutOf, named } from '../../support/layouts.ts';

/** Numbers that look random and are the same for the same seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number from 0 up to, without, `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  }

  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }
}

/** An archive that means harm, or is just broken. */
export interface HostileArchive {
  readonly kind: string;
  /** Whether it is made to take a lot of memory. */
  readonly isLarge: boolean;
  readonly bytes: Buffer;
}

interface Entry {
  readonly name: string;
  readonly content?: Buffer;
  readonly type?: string;
  readonly link?: string;
  /** What the header says, where that is not the content's size. */
  readonly size?: number | Buffer;
}

const index = localIndex('hostile', ['amd64', 'arm64']);
const image = localImage({ label: 'hostile' });
const good = (): LayoutFiles =>
  layoutOf([
    { manifest: index, annotations: named('docker.io/library/two:1') },
    { manifest: image, annotations: named('docker.io/library/one:1') },
  ]);
const layer = fileOf(image.blobs[1]!);
const zeros = (): Buffer => Buffer.alloc(256 * 1024 * 1024);

const evilNames = [
  '../../canary',
  '/tmp/canary',
  'blobs/../../canary',
  './../canary',
  'blobs/sha256/..',
  '..',
  'a\0b',
  '/',
];
const evilTargets = ['/etc/passwd', '../../../etc/passwd', '..', '', layer, 'index.json', '/proc/self/mem'];
const evilImageNames = [
  'docker.io/../../canary:1',
  'evil.example/x:1',
  'docker.io/library/x:\u001b[2J',
  'docker.io/LIBRARY/x:1',
  `docker.io/library/${'x'.repeat(300)}:1`,
  'docker.io/library/x:1@sha256:0',
  '@',
  ':',
];
const evilValues: readonly unknown[] = [
  null,
  -1,
  1e300,
  'x',
  [],
  {},
  0.5,
  Number.MAX_SAFE_INTEGER,
  'sha256:../../../../canary',
  `sha256:${'A'.repeat(64)}`,
  { toString: 1 },
  '__proto__',
];

type Maker = (dice: Dice) => Buffer;

const makers: Readonly<Record<string, Maker>> = {
  'a name that leads out of it': (dice) =>
    tarOf([...entries(good()), { name: dice.pick(evilNames), content: Buffer.from('evil') }], dice),
  'a link in place of a file': (dice) => {
    const name = dice.pick(['index.json', layer, fileOf(image), 'oci-layout', 'other']);
    const files = entries(good()).filter((entry) => entry.name !== name);
    return tarOf([...files, { name, type: dice.pick(['1', '2']), link: dice.pick(evilTargets) }], dice);
  },
  'a link beside the file': (dice) =>
    tarOf(
      [...entries(good()), { name: dice.pick(['index.json', layer]), type: '2', link: dice.pick(evilTargets) }],
      dice,
    ),
  'a device or something unknown': (dice) =>
    tarOf(
      [...entries(good()), { name: 'thing', type: dice.pick(['3', '4', '6', 'S', 'M', 'V', 'Z', '\u0001']) }],
      dice,
    ),
  'a sparse file': () =>
    tarOf([
      { name: 'pax', type: 'x', content: pax({ 'GNU.sparse.major': '1', 'GNU.sparse.realsize': '99999999999' }) },
      ...entries(good()),
    ]),
  'a size that lies': (dice) => {
    const all = entries(good());
    const lying = dice.below(all.length);
    const size = dice.pick([0, 1, 511, 513, 1e6, 2 ** 33 - 1, base256(2n ** 60n), base256(-1n), base256(2n ** 40n)]);
    return tarOf(all.map((entry, at) => (at === lying ? { ...entry, size } : entry)));
  },
  'a size in an extra header': (dice) => {
    const size = dice.pick(['-1', '1e9', '99999999999999999999', '0', '12 ', String(2 ** 50), 'x']);
    const all = entries(good());
    all.splice(dice.below(all.length), 0, { name: 'pax', type: 'x', content: pax({ size }) });
    return tarOf(all);
  },
  'an extra header that does not end': (dice) => {
    const size = dice.pick([100_000, 2 ** 31, base256(2n ** 50n)]);
    return tarOf([{ name: 'pax', type: dice.pick(['x', 'g', 'L', 'K']), size }, ...entries(good())]);
  },
  'extra headers without end': () =>
    tarOf([
      ...Array.from({ length: 3000 }, (_, at) => ({
        name: 'p',
        type: 'x',
        content: pax({ [`k${at}`]: 'v'.repeat(400) }),
      })),
      ...entries(good()),
    ]),
  'one name for all': (dice) =>
    tarOf([
      { name: 'g', type: 'g', content: pax({ [dice.pick(['path', 'size', 'linkpath'])]: '1' }) },
      ...entries(good()),
    ]),
  'a broken extra header': (dice) =>
    tarOf([
      {
        name: 'p',
        type: 'x',
        content: Buffer.from(dice.pick(['x', '99 path=a\n', '0 a=b\n', '-5 a=b\n', '12 path=ab', '5 a\n\n'])),
      },
      ...entries(good()),
    ]),
  'very many entries': (dice) =>
    tarOf(
      [
        ...Array.from({ length: 20_000 }, (_, at) => ({ name: `e/${at}`, content: Buffer.alloc(0) })),
        ...entries(good()),
      ],
      dice,
    ),
  'long names, compressed': () => {
    // All of them are links to nothing.
    const padding = 'я'.repeat(4000);
    const header = (at: number) => ({ name: 'p', type: 'x', content: pax({ path: `${at}${padding}` }) });
    const links = Array.from({ length: 10_000 }, (_, at) => [header(at), { name: 'a', type: '2', link: 'b' }]);
    return gzipSync(tarOf([...links.flat(), ...entries(good())]), { level: 1 });
  },
  'something twice': (dice) => {
    const all = entries(good());
    const twice = dice.pick(all);
    return tarOf(
      [...all, { ...twice, content: dice.pick([twice.content!, Buffer.from('other'), reversed(twice.content!)]) }],
      dice,
    );
  },
  'a wrong blob': (dice) => {
    const files = good();
    const name = dice.pick(Object.keys(files).filter((file) => file.startsWith('blobs/')));
    const content = turned(files[name]!, dice);
    return tarArchive({ ...files, [name]: content });
  },
  'a missing blob': (dice) => {
    const files = good();
    delete files[dice.pick(Object.keys(files))];
    return tarArchive(files);
  },
  'an index that is too large': () => tarArchive({ ...good(), 'index.json': Buffer.alloc(20 * 1024 * 1024, ' ') }),
  'an index of very many objects': () =>
    tarArchive({ ...good(), 'index.json': Buffer.from(`{"manifests":[${'{},'.repeat(4_000_000)}{}]}`) }),
  'an index that is nested deeply': () =>
    tarArchive({ ...good(), 'index.json': Buffer.from(`${'['.repeat(150_000)}${']'.repeat(150_000)}`) }),
  'nonsense in the index': (dice) => {
    const parsed = JSON.parse(good()['index.json']!.toString()) as { manifests: Record<string, unknown>[] };
    const entry = parsed.manifests[0]!;
    entry[dice.pick(['digest', 'size', 'mediaType', 'annotations'])] = dice.pick(evilValues);
    if (dice.below(4) === 0) Object.assign(parsed, { manifests: dice.pick(evilValues) });
    return tarArchive({ ...good(), 'index.json': Buffer.from(JSON.stringify(parsed)) });
  },
  'an image with an evil name': (dice) =>
    tarArchive(layoutOf([{ manifest: image, annotations: named(dice.pick(evilImageNames)) }])),
  'nonsense in a manifest': (dice) => {
    const body = JSON.parse(image.bytes.toString()) as Record<string, unknown>;
    const place = dice.pick(['config', 'layers', 'mediaType', 'manifests', 'subject', 'schemaVersion']);
    body[place] = dice.pick([...evilValues, [{ digest: dice.pick(evilValues), size: dice.pick(evilValues) }]]);
    const manifest = { ...localBlob(JSON.stringify(body), image.mediaType), blobs: image.blobs, manifests: [] };
    return tarArchive(layoutOf([{ manifest, annotations: named('docker.io/library/x:1') }]));
  },
  'indexes nested without end': (dice) => {
    let manifest: typeof index = image;
    for (let depth = 0; depth < 3 + dice.below(10); depth += 1) manifest = indexOf([manifest]);
    return tarArchive(layoutOf([{ manifest, annotations: named('docker.io/library/x:1') }]));
  },
  'an index that names a large one again and again': () => {
    const inner = indexOf([image], 2_000_000);
    const outer = indexOf(Array.from({ length: 300 }, () => inner));
    return tarArchive(layoutOf([{ manifest: outer, annotations: named('docker.io/library/x:1') }]));
  },
  'manifests of many bytes, compressed': () => {
    const manifests = Array.from({ length: 170 }, (_, at) => {
      const note = String(at).repeat(3_900_000 / String(at).length);
      return localBlob(JSON.stringify({ schemaVersion: 2, layers: [], note }), image.mediaType);
    });
    const links = manifests.map(({ mediaType, digest, size }, at) => {
      return { mediaType, digest, size, annotations: named(`docker.io/library/x:${at}`) };
    });
    const list = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: links }));
    const pieces = manifests.map((manifest) => tarOf([{ name: fileOf(manifest), content: manifest.bytes }]));
    const start = tarOf([{ name: 'index.json', content: list }]);
    // Compressed one by one, all but the last without the end of an archive: what unpacks them reads them as one.
    const parts = [start, ...pieces].map((piece) => piece.subarray(0, -1024));
    return Buffer.concat([...parts, Buffer.alloc(1024)].map((part) => gzipSync(part, { level: 1 })));
  },
  'cut short': (dice) => {
    const whole = tarArchive(good());
    return whole.subarray(0, dice.below(whole.length));
  },
  'cut short and compressed': (dice) => {
    const whole = gzipSync(tarArchive(good()));
    return whole.subarray(0, 4 + dice.below(whole.length - 4));
  },
  'bits turned over': (dice) => {
    let bytes = tarArchive(good());
    for (let count = 1 + dice.below(20); count > 0; count -= 1) bytes = turned(bytes, dice);
    return bytes;
  },
  noise: (dice) => Buffer.from(Array.from({ length: dice.below(5000) }, () => dice.below(256))),
  'zeros without end, compressed': () => gzipSync(zeros(), { level: 1 }),
  'a blob of zeros without end, compressed': () => {
    const files = good();
    return gzipSync(
      tarOf([...entries(files).filter(({ name }) => name !== layer), { name: layer, content: zeros() }]),
      { level: 1 },
    );
  },
  'two archives in one': () => Buffer.concat([tarArchive(good()), tarArchive({ 'index.json': Buffer.from('{}') })]),
  'docker save with evil layers': (dice) => {
    const list = [
      {
        Config: dice.pick([...evilTargets, 'c.json']),
        RepoTags: [dice.pick([...evilImageNames, 'x:1'])],
        Layers: [dice.pick([...evilTargets, 'l/layer.tar'])],
      },
    ];
    const body = dice.pick<unknown>([list, dice.pick(evilValues), [dice.pick(evilValues)]]);
    return tarOf(
      [
        { name: 'manifest.json', content: Buffer.from(JSON.stringify(body)) },
        {
          name: 'c.json',
          content: Buffer.from(
            JSON.stringify({ rootfs: { diff_ids: dice.pick<unknown>([[image.digest], dice.pick(evilValues), []]) } }),
          ),
        },
        { name: 'l/layer.tar', content: Buffer.from('layer') },
      ],
      dice,
    );
  },
  'docker save with the same layers again and again': () => {
    const content = Buffer.from('layer');
    const config = { rootfs: { diff_ids: Array.from({ length: 1000 }, () => localBlob(content).digest) } };
    // Each image differs from all others by the place of one layer or two.
    const list = Array.from({ length: 1000 }, (_, at) => ({
      Config: 'c',
      Layers: Array.from({ length: 1000 }, (_layer, place) => (place === at ? 'y' : place === 999 - at ? 'z' : 'x')),
    }));
    const longer = (name: string, length: number) => ({ name, content: Buffer.alloc(length) });
    return tarOf([
      { name: 'manifest.json', content: Buffer.from(JSON.stringify(list)) },
      { name: 'c', content: Buffer.from(JSON.stringify(config)) },
      { name: 'x', content },
      longer('y', 6),
      longer('z', 7),
    ]);
  },
  'links in a circle': () =>
    tarOf([
      {
        name: 'manifest.json',
        content: Buffer.from(JSON.stringify([{ Config: 'a', RepoTags: ['x:1'], Layers: ['b'] }])),
      },
      { name: 'a', type: '2', link: 'b' },
      { name: 'b', type: '2', link: 'a' },
    ]),
  'a description that was altered': (dice) => {
    const description = JSON.stringify({
      archive: image.digest,
      version: dice.pick([1, 2, 'x']),
      index: index.digest,
      needs: dice.pick(evilValues),
      complete: [],
    });
    return tarArchive({ ...good(), 'millpond.json': Buffer.from(description) });
  },
};

/** Large ones: one of each is enough. */
const large = new Set([
  'extra headers without end',
  'very many entries',
  'an index that is too large',
  'an index of very many objects',
  'an index that names a large one again and again',
  'manifests of many bytes, compressed',
  'long names, compressed',
  'docker save with the same layers again and again',
  'zeros without end, compressed',
  'a blob of zeros without end, compressed',
]);

/** One that means no harm. */
export function harmlessArchive(): HostileArchive {
  return { kind: 'nothing wrong', isLarge: false, bytes: tarArchive(good()) };
}

/** As many archives as are wanted, of every kind in turn; the same for the same seed. */
export function* hostileArchives(seed: number, count: number): Generator<HostileArchive> {
  let kinds = Object.entries(makers);
  let turn = 0;
  for (let number = 0; number < count; number += 1) {
    if (turn === kinds.length) {
      kinds = kinds.filter(([kind]) => !large.has(kind));
      turn = 0;
    }
    const [kind, make] = kinds[turn]!;
    turn += 1;
    yield { kind, isLarge: large.has(kind), bytes: make(new Dice(seed * 1000 + number)) };
  }
}

/** An index of some manifests, and so many bytes of padding. */
function indexOf(manifests: readonly LocalManifest[], padding = 0): LocalManifest {
  const links = manifests.map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
  const note = 'x'.repeat(padding);
  const body = JSON.stringify({ schemaVersion: 2, mediaType: index.mediaType, manifests: links, note });
  return { ...localBlob(body, index.mediaType), blobs: [], manifests: manifests.slice(0, 1) };
}

function entries(files: LayoutFiles): Entry[] {
  return Object.entries(files).map(([name, content]) => ({ name, content }));
}

/** The same with one bit turned over. */
function turned(bytes: Buffer, dice: Dice): Buffer {
  const copy = Buffer.from(bytes);
  const place = dice.below(copy.length);
  copy.writeUInt8(copy.readUInt8(place) ^ (1 << dice.below(8)), place);
  return copy;
}

function reversed(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toReversed());
}

/** @param dice shuffles the entries */
function tarOf(all: readonly Entry[], dice?: Dice): Buffer {
  const order = [...all];
  for (let at = dice ? order.length - 1 : 0; at > 0; at -= 1) {
    const other = dice!.below(at + 1);
    [order[at], order[other]] = [order[other]!, order[at]!];
  }
  const blocks = order.flatMap(({ name, content = Buffer.alloc(0), type = '0', link = '', size }) => {
    const header = Buffer.alloc(512);
    header.write(name, 0, 100);
    header.write('0000644\x000000000\x000000000\0', 100);
    if (typeof size === 'object') size.copy(header, 124);
    else header.write(`${(size ?? content.length).toString(8).padStart(11, '0')}\0`, 124);
    header.write(`${'0'.repeat(11)}\0        ${type}`, 136);
    header.write(link, 157, 100);
    header.write('ustar\x0000', 257);
    let sum = 0;
    for (const byte of header) sum += byte;
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, content, Buffer.alloc((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function base256(value: bigint): Buffer {
  const field = Buffer.alloc(12);
  field.writeBigInt64BE(value, 4);
  if (value < 0n) field.fill(0xff, 0, 4);
  else field[0] = 0x80;
  return field;
}

function pax(attributes: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(attributes).map(([key, value]) => {
      const rest = ` ${key}=${value}\n`;
      let length = Buffer.byteLength(rest) + 1;
      while (Buffer.byteLength(rest) + String(length).length !== length) length += 1;
      return Buffer.from(`${length}${rest}`);
    }),
  );
}
