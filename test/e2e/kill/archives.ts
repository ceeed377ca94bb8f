import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readAll, seededSource } from '../../support/bytes.ts';
import { type LocalManifest, localArtifact, localBlob } from '../../support/images.ts';
import { layoutOf, named, writeTar } from '../../support/layouts.ts';
import { startTestSite } from '../../support/site.ts';
import { Random } from './random.ts';

const program = fileURLToPath(new URL('../../../bin/millpond', import.meta.url));
const settings = { upstreams: { 'quay.io': { urls: ['http://127.0.0.1:1'] } }, offline: true };
const repository = 'quay.io/org/app';
const mebibyte = 1024 * 1024;

export interface ArchiveKillOptions {
  readonly command: 'import' | 'export';
  /** How often it is killed. */
  readonly count: number;
  readonly seed: number;
  /** A folder of its own; kept. */
  readonly directory: string;
  readonly onKill?: (line: string) => void;
}

/** What became of a command that was killed again and again, and completed after each kill. */
export interface ArchiveKillReport {
  readonly violations: readonly string[];
  /** How often it was killed before it was done. */
  readonly kills: number;
  /** Blobs that a killed import had left, all of them right. */
  readonly keptBlobs: number;
}

/**
 * Kills `millpond import` or `millpond export` with SIGKILL at random moments, looks at what can be seen then, and runs it
 * once more, which has to complete. Stops at the first violation.
 */
export async function killArchiveCommand(options: ArchiveKillOptions): Promise<ArchiveKillReport> {
  const { command, count, seed, directory, onKill } = options;
  const random = new Random(seed);
  const images = makeImages();
  const config = { ...settings, cache: { dir: join(directory, 'data') } };
  await writeFile(join(directory, 'millpond.yaml'), JSON.stringify(config));
  await writeTar(
    join(directory, 'in.tar'),
    layoutOf(images.map((manifest, at) => ({ manifest, annotations: named(`${repository}:${at}`) }))),
  );
  const args =
    command === 'import'
      ? ['import', 'in.tar', '--json']
      : ['export', '--json', '--output', 'out.tar', ...images.map((_, at) => `${repository}:${at}`)];
  let reference: Buffer | undefined;
  if (command === 'export') {
    await complete(directory, ['import', 'in.tar', '--json']);
    await complete(directory, args);
    reference = await readFile(join(directory, 'out.tar'));
  }
  const violations: string[] = [];
  let kills = 0;
  let keptBlobs = 0;
  for (let round = 0; round < count && violations.length === 0; round += 1) {
    const what = command === 'import' ? ['data'] : ['out.tar', 'out.tar.sha256'];
    for (const name of what) await rm(join(directory, name), { recursive: true, force: true });
    // An export says what it is about to write, and then writes: most kills come after that.
    const lines = command === 'import' ? random.between(0, 14) : Math.min(1, random.between(0, 5));
    const afterMs = random.between(0, 40);
    const wasKilled = await killed(directory, { args, lines, afterMs });
    if (wasKilled) kills += 1;
    onKill?.(
      `${round + 1}/${count} ${wasKilled ? 'killed' : 'done'}, ${lines} lines and ${afterMs} ms after its start`,
    );
    if (reference) violations.push(...(await archiveViolations(directory, reference, { isDone: !wasKilled })));
    else {
      const { wrong, blobs } = await cacheViolations(directory, images, { isDone: false });
      violations.push(...wrong);
      keptBlobs += blobs;
    }
    await complete(directory, args);
    if (reference) violations.push(...(await archiveViolations(directory, reference, { isDone: true })));
    else violations.push(...(await cacheViolations(directory, images, { isDone: true })).wrong);
  }
  return { violations, kills, keptBlobs };
}

/** Two images with layers of some megabytes, one of them shared. */
function makeImages(): LocalManifest[] {
  const layer = (seed: number, size: number) =>
    localBlob(readAll(seededSource(size, seed)), 'application/vnd.oci.image.layer.v1.tar');
  const shared = layer(1, 6 * mebibyte);
  return [2, 5].map((seed) =>
    localArtifact({
      layers: [shared, layer(seed, 3 * mebibyte), layer(seed + 1, 5000), layer(seed + 2, 9 * mebibyte)],
    }),
  );
}

/** @returns whether it was still running */
async function killed(
  directory: string,
  { args, lines, afterMs }: { args: readonly string[]; lines: number; afterMs: number },
): Promise<boolean> {
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  let count = 0;
  if (lines > 0) {
    for await (const _ of createInterface({ input: child.stdout })) {
      count += 1;
      if (count === lines) break;
    }
  }
  await Promise.race([delay(afterMs), exited]);
  child.kill('SIGKILL');
  await exited;
  return child.signalCode === 'SIGKILL';
}

/** @throws Error with what it said, where it fails */
async function complete(directory: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  await once(child, 'close');
  if (child.exitCode !== 0) throw new Error(`millpond ${args.join(' ')} ended with ${child.exitCode}: ${said}`);
}

/** What is wrong with the cache: a blob that is not what it is called, an image that is there and not whole. */
async function cacheViolations(
  directory: string,
  images: readonly LocalManifest[],
  { isDone }: { isDone: boolean },
): Promise<{ wrong: string[]; blobs: number }> {
  const wrong: string[] = [];
  const cacheDir = join(directory, 'data');
  const names = await readdir(join(cacheDir, 'blobs/sha256')).catch(() => []);
  for (const name of names) {
    const { digest } = localBlob(await readFile(join(cacheDir, 'blobs/sha256', name)));
    if (digest !== `sha256:${name}`) wrong.push(`${name} has other bytes`);
  }
  await using site = await startTestSite({ upstreams: {}, cacheDir, config: settings });
  for (const [at, image] of images.entries()) {
    const { status, body } = await site.get(`/v2/${repository}/manifests/${at}`);
    if (status !== 200) {
      if (isDone || status !== 404) wrong.push(`tag ${at} is answered with ${status}`);
      continue;
    }
    if (!body.equals(image.bytes)) wrong.push(`tag ${at} has other bytes`);
    for (const { digest } of image.blobs) {
      const got = await site.get(`/v2/${repository}/blobs/${digest}`);
      if (got.status !== 200 || localBlob(got.body).digest !== digest)
        wrong.push(`${digest} of tag ${at} cannot be had`);
    }
  }
  const leftOver = isDone ? await readdir(join(cacheDir, 'ingest')) : [];
  wrong.push(...leftOver.map((name) => `${name} is left in ingest/`));
  return { wrong, blobs: names.length };
}

/** What is wrong with the archive: it is there and not whole, or its list is there without it. */
async function archiveViolations(
  directory: string,
  reference: Buffer,
  { isDone }: { isDone: boolean },
): Promise<string[]> {
  const wrong: string[] = [];
  const read = (name: string) => readFile(join(directory, name)).catch(() => undefined);
  const archive = await read('out.tar');
  const list = await read('out.tar.sha256');
  if (archive ? !archive.equals(reference) : isDone || list !== undefined) wrong.push('out.tar is not whole');
  if (list ? !list.includes(localBlob(reference).digest.slice(7)) : isDone) wrong.push('the list is not right');
  const names = await readdir(directory);
  if (isDone) wrong.push(...names.filter((name) => name.endsWith('.partial')).map((name) => `${name} is left`));
  return wrong;
}
