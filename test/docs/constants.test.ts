import { describe, expect, test } from 'vitest';
import { pageText } from './pages.ts';

const kib = 1024;
const mib = 1024 * kib;
const gib = 1024 * mib;
const second = 1000;
const hour = 3600 * second;
const day = 24 * hour;

/** A figure in a page, and the constant in the code that it repeats. */
interface Figure {
  /** The value in the unit of the code. */
  readonly value: number;
  readonly constant: readonly [file: string, name: string];
  /** Where it is written: each text has to be in its page, spaces and line ends alike. */
  readonly written: readonly (readonly [page: string, text: string])[];
}

const figures: readonly Figure[] = [
  {
    value: 64 * kib,
    constant: ['src/mirror/fill/fill.ts', 'heldBackBytes'],
    written: [
      ['README.md', 'The last 64 KiB of a blob'],
      ['docs/how-it-works.md', 'no reader gets the last 64 KiB'],
      ['docs/adr/0003-hold-back-the-end.md', 'Hold back the last 64 KiB'],
      ['docs/failure-modes.md', 'no client gets the last 64 KiB'],
      ['docs/security.md', 'before its last 64 KiB'],
      ['docs/lifecycle.md', 'A blob of at most 64 KiB is verified before any of it is sent'],
    ],
  },
  {
    value: 64 * kib,
    constant: ['src/store/files/blob-store.ts', 'smallBlobBytes'],
    written: [
      ['docs/how-it-works.md', 'in memory (up to 64 KiB)'],
      ['docs/adr/0014-trust-in-files.md', 'A file of more than 64 KiB is hashed'],
    ],
  },
  {
    value: 512 * kib,
    constant: ['src/http/pieces.ts', 'largeBytes'],
    written: [
      ['docs/how-it-works.md', 'one buffer of 512 KiB'],
      ['docs/security.md', 'one buffer, of 512 KiB while there is room'],
    ],
  },
  {
    value: 512 * kib,
    constant: ['src/memory/slabs.ts', 'slabBytes'],
    written: [['docs/adr/0007-moving-bytes.md', 'a *slab* of 512 KiB']],
  },
  {
    value: 1 * mib,
    constant: ['src/store/files/batch-writer.ts', 'batchBytes'],
    written: [['docs/how-it-works.md', 'in batches of about 1 MiB']],
  },
  {
    value: 4 * mib,
    constant: ['src/memory/recent-bytes.ts', 'mostBytes'],
    written: [['docs/adr/0007-moving-bytes.md', 'the last 4 MiB of a blob']],
  },
  {
    value: 32 * mib,
    constant: ['src/store/files/partial-file.ts', 'notePrefixEveryBytes'],
    written: [['docs/adr/0009-several-connections-one-file.md', 'grown by 32 MiB']],
  },
  {
    value: 3 * day,
    constant: ['src/store/eviction-policy.ts', 'halfLifeMs'],
    written: [['docs/how-it-works.md', 'heat halves every three days']],
  },
  {
    value: 0.1,
    constant: ['src/store/eviction-policy.ts', 'recentShare'],
    written: [['docs/how-it-works.md', 'up to a tenth of all bytes']],
  },
  {
    value: 16,
    constant: ['src/store/eviction/victims.ts', 'blobsPerStep'],
    written: [['docs/how-it-works.md', 'up to 16 files']],
  },
  {
    value: 64 * mib,
    constant: ['src/store/eviction/evictor.ts', 'fullBytes'],
    written: [['docs/failure-modes.md', 'at least 64 MiB, is evicted']],
  },
  {
    value: 20,
    constant: ['src/store/files/quarantine.ts', 'maxQuarantined'],
    written: [['docs/operations.md', 'the latest 20 files']],
  },
  {
    value: gib,
    constant: ['src/store/files/quarantine.ts', 'maxQuarantinedBytes'],
    written: [['docs/operations.md', 'at most 1 GiB']],
  },
  {
    value: 200,
    constant: ['src/store/catalog/image-removal.ts', 'maxHolders'],
    written: [['docs/commands.md', 'more than 200 of the images']],
  },
  {
    value: 5,
    constant: ['src/operations/owner/fetch/patience.ts', 'maxFailures'],
    written: [['docs/commands.md', 'retried up to five times in a row']],
  },
  {
    value: 4,
    constant: ['src/operations/owner/fetch/image-walk.ts', 'maxReferrerDepth'],
    written: [['docs/commands.md', 'to four levels']],
  },
  {
    value: 3,
    constant: ['src/upstream/gate.ts', 'maxConnectionFailures'],
    written: [['docs/adr/0010-gates.md', 'three failed connections']],
  },
  {
    value: 5,
    constant: ['src/upstream/gate.ts', 'maxServerFailures'],
    written: [['docs/adr/0010-gates.md', 'five responses in a row']],
  },
  {
    value: second,
    constant: ['src/upstream/failures.ts', 'defaultPauseMs'],
    written: [['docs/adr/0010-gates.md', 'the first pause lasts a second']],
  },
  {
    value: 10 * second,
    constant: ['src/upstream/gate.ts', 'maxUntoldPauseMs'],
    written: [['docs/adr/0010-gates.md', 'up to ten seconds']],
  },
  {
    value: hour,
    constant: ['src/upstream/failures.ts', 'maxPauseMs'],
    written: [['docs/adr/0010-gates.md', 'at most an hour']],
  },
  {
    value: 5 * second,
    constant: ['src/upstream/options.ts', 'defaultProbeMs'],
    written: [['docs/adr/0010-gates.md', 'one probe interval (5 s)']],
  },
  {
    value: 250,
    constant: ['src/coordination/redis.ts', 'defaultDeadlineMs'],
    written: [
      ['docs/cluster.md', 'a call waits at most 250 ms'],
      ['docs/adr/0016-replicas-agree-by-hints.md', 'a deadline of 250 ms'],
    ],
  },
  {
    value: 3 * second,
    constant: ['src/coordination/leases.ts', 'leaseMs'],
    written: [
      ['docs/cluster.md', 'expires 3 s after the last renewal'],
      ['docs/adr/0016-replicas-agree-by-hints.md', 'A lease lives three seconds'],
    ],
  },
  {
    value: 4,
    constant: ['src/coordination/leases.ts', 'fanOut'],
    written: [['docs/cluster.md', 'at most four from one']],
  },
  {
    value: 30 * day,
    constant: ['src/coordination/changes.ts', 'changesKeptMs'],
    written: [['docs/cluster.md', 'kept for 30 days']],
  },
  {
    value: 1 * second,
    constant: ['src/http/peer-routes.ts', 'patienceMs'],
    written: [['docs/extensions/_millpond.md', '`102 Processing` every second']],
  },
];

/** The value of `const name = …;` in a file, where it is arithmetic of numbers. */
async function constantOf([file, name]: readonly [string, string]): Promise<number> {
  const source = await pageText(file);
  const expression = new RegExp(`^(?:export )?const ${name}(?:: \\w+)? = ([\\d_ *./+()-]+);`, 'm').exec(source)?.[1];
  if (expression === undefined) throw new Error(`${file} has no constant ${name} that is a number`);
  return expression
    .replaceAll('_', '')
    .split(/(?<!\*)\*(?!\*)/)
    .map((factor) => factor.split('**').map(Number))
    .reduce((product, [base = Number.NaN, power = 1]) => product * base ** power, 1);
}

const oneLine = (text: string) => text.replaceAll(/\s+/g, ' ');

describe('figures in the documentation are those of the code', () => {
  test.each(figures)('$constant', async ({ value, constant, written }) => {
    expect(await constantOf(constant)).toBe(value);
    for (const [page, text] of written) expect(oneLine(await pageText(page))).toContain(text);
  });
});
