// Lists the files of src/ that run for one request: what somebody has to read to understand its way.
//   node scripts/files-of-a-request.ts [warm-blob|fresh-tag|stale-tag|cold-blob|peer-fill|eviction|import]…
// Counted is a file of which at least five lines of code run, from http/registry-routes.ts on (an import: from
// operations/command/import-archive.ts on), unless `doors` names it. Files without functions, such as those of types alone,
// never run.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type Profiler, Session } from 'node:inspector/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { runCommand } from '../test/support/commands.ts';
import { localArtifact, localBlob } from '../test/support/images.ts';
import { layoutOf, named, writeTar } from '../test/support/layouts.ts';
import { startRedis } from '../test/support/redis.ts';
import { startRegistry } from '../test/support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../test/support/site.ts';

const sourceFolder = join(dirname(import.meta.dirname), 'src');

/** Of fewer lines the name of the function says enough. */
const countedLines = 5;

const roomOnDisk = /^store\/(?:eviction\/|eviction-policy\.ts|files\/file-system\.ts)/;

/** Not counted: files whose name or interface says what they do, and that many ways share. */
const doors: readonly RegExp[] = [
  // Vocabulary and leaves; of files, their paths, and reading and writing at a position.
  /^(?:oci|waiting|memory|config)\//,
  /^store\/files\/(?:layout|plain-file|read-at)\.ts$/,
  // The way of every request to its route, and of a command to its operation; the making of the parts.
  /^(?:site|front|access|cli)\//,
  /^http\/(?!(?:registry-routes|manifest-blobs|replies|send|pieces|handed-over|shared-bytes|write-paced)\.ts)/,
  /^mirror\/mirror\.ts$/,
  // Observers, which decide nothing about this answer.
  /^(?:telemetry|discovery|events|holds|signatures)\//,
  // Room on the disk, which files ask for through Space: a way of its own.
  roomOnDisk,
  // SQLite behind the nouns of the catalog.
  /^store\/catalog\/(?:catalog|catalog-file|checkpointer|database|journal-mark|many-parts|name-entry|name-journal|row|transactions)\.ts$/,
  // The forms of archives, behind what an archive has.
  /^archive\/(?!(?:archive|archived-content)\.ts)/,
  // Tables of all operations, made of theirs.
  /^operations\/owner\/(?:operations|(?!archives)\w+\/operations)\.ts$/,
  // How one request to an upstream is put together and sent, behind Asker: the README of upstream/ tells.
  /^transport\//,
  /^upstream\/(?:credentials\/.*|address-guard|agents|auth|create-upstream|encoding|endpoint-path|http-client|lazy-upstream|parent|place|profile|rate-limit|repository-rules|selection|table)\.ts$/,
];

const blobBytes = 2 * 1024 * 1024;
/** Blobs that are stored before one has to go. */
const storedBlobs = 48;
/** Each way is gone several times: what runs each time belongs to it, and what runs by the clock does not. */
const times = 4;
/** What a request has begun comes to its end in this time, in milliseconds. */
const afterMs = 200;

const ways: Readonly<Record<string, () => Promise<Files>>> = {
  'warm-blob': () =>
    single(async ({ site, blobs: [blob = ''] }) => {
      await site.get(blob);
      return () => site.get(blob);
    }),
  'fresh-tag': () =>
    single(async ({ site, tag }) => {
      await site.get(tag);
      return () => site.get(tag);
    }),
  'stale-tag': () =>
    single(async ({ site, tag, advance }) => {
      await site.get(tag);
      return async () => {
        advance(3_600_000);
        await site.get(tag);
      };
    }),
  'cold-blob': coldBlob,
  'peer-fill': peerFill,
  eviction,
  import: importing,
};

/** Lines of code that ran, by file below src/. */
type Files = ReadonlyMap<string, number>;

interface Scene {
  readonly site: TestSite;
  readonly tag: string;
  /** Paths of the blobs of its image. */
  readonly blobs: string[];
  readonly advance: (ms: number) => void;
}

const { argv } = process;
for (const name of argv.length > 2 ? argv.slice(2) : Object.keys(ways)) {
  const way = ways[name];
  if (way === undefined) throw new Error(`no such way: ${name}; there are ${Object.keys(ways).join(', ')}`);
  const lines = await way();
  const files = [...lines.keys()].toSorted();
  const isOpen = (door: RegExp): boolean => name === 'eviction' && door === roomOnDisk;
  const isBehindADoor = (file: string): boolean => doors.some((door) => door.test(file) && !isOpen(door));
  const outside = files.filter((file) => !isBehindADoor(file));
  const counted = outside.filter((file) => lines.get(file)! >= countedLines);
  console.log(`${name}: ${counted.length} files`);
  for (const file of counted) console.log(`${String(lines.get(file)).padStart(6)} lines of ${file}`);
  console.log(`  fewer than ${countedLines} lines: ${outside.filter((file) => !counted.includes(file)).join(', ')}`);
  console.log(`  behind a door: ${files.filter(isBehindADoor).join(', ')}\n`);
}

/** A way through one mirror. @param prepare makes the cache ready, and returns the request itself */
async function single(
  prepare: (scene: Scene) => Promise<() => Promise<unknown>>,
  config: Readonly<Record<string, unknown>> = {},
): Promise<Files> {
  let timeMs = Date.now();
  await using upstream = await startRegistry();
  const layers = Array.from({ length: times + storedBlobs }, () => randomBytes(blobBytes));
  const image = upstream.addImage('app', '1', { layers });
  await using site = await startTestSite({
    upstreams: { hub: upstream },
    keepsAnswers: false,
    keepsLog: false,
    now: () => timeMs,
    config,
  });
  const request = await prepare({
    site,
    tag: '/v2/hub/app/manifests/1',
    blobs: image.layers.map(({ digest }) => `/v2/hub/app/blobs/${digest}`),
    advance: (ms) => void (timeMs += ms),
  });
  return await linesRunBy(request);
}

/** Blobs that are not here, of an image whose manifest and another blob are. */
function coldBlob(): Promise<Files> {
  return single(async ({ site, tag, blobs: [first = '', ...blobs] }) => {
    await site.get(tag);
    await site.get(first);
    return () => site.get(blobs.pop()!);
  });
}

/**
 * What runs, beside what a cold blob needs, in a replica that has nothing and in another one that has the blob: they share
 * this process.
 */
async function peerFill(): Promise<Files> {
  const ofColdBlob = await coldBlob();
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), 'millpond-files-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const secretFile = join(folder, 'secret');
  await writeFile(secretFile, 'a secret that both replicas share');
  const redis = stack.use(await startRedis());
  const upstream = stack.use(await startRegistry());
  const layers = Array.from({ length: times }, () => randomBytes(blobBytes));
  const image = upstream.addImage('app', '1', { layers });
  const config = { redis: { url: redis.url }, cluster: { secretFile } };
  const options = { upstreams: { hub: upstream }, keepsAnswers: false, keepsLog: false, config };
  const one = stack.use(await startTestSite(options));
  const other = stack.use(await startTestSite(options));
  const areTogether = async (site: TestSite): Promise<boolean> =>
    (await site.get('/metrics')).body.toString().includes('millpond_peer_replicas 2');
  while (!(await areTogether(one)) || !(await areTogether(other))) await delay(50);
  for (const site of [one, other]) await site.get('/v2/hub/app/manifests/1');
  const blobs = image.layers.map(({ digest }) => `/v2/hub/app/blobs/${digest}`);
  for (const blob of blobs) await one.get(blob);
  const files = await linesRunBy(() => other.get(blobs.pop()!));
  return new Map(
    [...files].filter(([file, lines]) => lines >= countedLines && (ofColdBlob.get(file) ?? 0) < countedLines),
  );
}

/**
 * What makes room, beside what else a cold blob needs: the cache is full of blobs of images that it does not know, and each
 * new one evicts the coldest.
 */
async function eviction(): Promise<Files> {
  const ofColdBlob = await coldBlob();
  const files = await single(
    async ({ site, blobs }) => {
      for (const blob of blobs.splice(0, storedBlobs)) await site.get(blob);
      return () => site.get(blobs.pop()!);
    },
    { cache: { maxSize: `${2 * storedBlobs}MiB` } },
  );
  return new Map([...files].filter(([file]) => roomOnDisk.test(file) || (ofColdBlob.get(file) ?? 0) < countedLines));
}

/**
 * An archive with one image into a running mirror, beside what a cold blob needs: the command and the mirror share this
 * process.
 */
async function importing(): Promise<Files> {
  const ofColdBlob = await coldBlob();
  await using folder = await temporaryFolder();
  await using upstream = await startRegistry();
  await using site = await startTestSite({ upstreams: { hub: upstream }, keepsAnswers: false, keepsLog: false });
  const configFile = join(folder.path, 'millpond.yaml');
  await writeFile(configFile, JSON.stringify({ upstreams: { hub: {} }, cache: { dir: site.cacheDir } }));
  const archives = await Promise.all(
    Array.from({ length: times }, (_, index) => {
      const manifest = localArtifact({ layers: [localBlob(randomBytes(blobBytes))] });
      const annotations = named(`hub/app:${index}`);
      return writeTar(join(folder.path, `${index}.tar`), layoutOf([{ manifest, annotations }]));
    }),
  );
  const files = await linesRunBy(async () => {
    const { code, stderr } = await runCommand(['import', archives.pop()!, '--config', configFile], folder.path);
    if (code !== 0) throw new Error(stderr);
  });
  return new Map([...files].filter(([file]) => (ofColdBlob.get(file) ?? 0) < countedLines));
}

/** Lines that run each time while a request is answered, and what it has begun comes to its end. */
async function linesRunBy(request: () => Promise<unknown>): Promise<Files> {
  const session = new Session();
  session.connect();
  using _ = { [Symbol.dispose]: () => session.disconnect() };
  await session.post('Profiler.enable');
  await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  const runs: Files[] = [];
  while (runs.length < times) {
    await delay(3 * afterMs);
    // Discards what has run so far.
    await session.post('Profiler.takePreciseCoverage');
    await request();
    await delay(afterMs);
    const { result } = await session.post('Profiler.takePreciseCoverage');
    runs.push(new Map(result.flatMap(linesOf)));
  }
  const [first, ...others] = runs as [Files, ...Files[]];
  const always = [...first].filter(([file]) => others.every((run) => run.has(file)));
  return new Map(always.map(([file, lines]) => [file, Math.min(lines, ...others.map((run) => run.get(file)!))]));
}

/** The lines of code of a file in functions that ran, without comments; none for what is not below src/. */
function linesOf({ url, functions }: Profiler.ScriptCoverage): [string, number][] {
  const folder = `file://${sourceFolder}/`;
  if (!url.startsWith(folder)) return [];
  const file = url.slice(folder.length);
  const text = readFileSync(join(sourceFolder, file), 'utf8');
  const isRun = new Uint8Array(text.length);
  // Outer functions come before inner ones.
  for (const { ranges, functionName } of functions) {
    const [{ startOffset, endOffset, count }] = ranges as [Profiler.CoverageRange];
    if (functionName !== '' || startOffset > 0) isRun.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  let lines = 0;
  let start = 0;
  for (const line of text.split('\n')) {
    const isCode = !/^\s*(?:$|\/\/|\/?\*)/.test(line);
    if (isCode && isRun.subarray(start, start + line.length).includes(1)) lines += 1;
    start += line.length + 1;
  }
  return lines === 0 ? [] : [[file, lines]];
}
