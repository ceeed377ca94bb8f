import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { runCommand } from '../../support/commands.ts';
import { localBlob } from '../../support/images.ts';

/** What became of one archive. */
export interface HostileResult {
  readonly kind: string;
  readonly code: number;
  readonly stderr: string;
  /** Images by name, as the command told. */
  readonly images: readonly { readonly name: string; readonly digest: string }[];
  /** Files in the place of the cache that are not what they should be, and anything outside of it. */
  readonly wrong: readonly string[];
}

/** What is left to say when all have been imported. */
export interface HostileEnd {
  readonly maxRssBytes: number;
}

// A process of its own, so that its memory can be told: `node run.ts FOLDER`. It waits for a line on standard input for
// each archive that lies ready as `a.tar`, and answers with a line.
const [folder = ''] = process.argv.slice(2);
const config = { upstreams: { 'docker.io': { urls: ['http://127.0.0.1:1'] } }, cache: { dir: 'data' }, offline: true };
await writeFile(join(folder, 'millpond.yaml'), JSON.stringify(config));
for await (const kind of createInterface({ input: process.stdin })) {
  const { code, stdout, stderr } = await runCommand(['import', join(folder, 'a.tar'), '--json'], folder);
  const events = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  const images = events.filter((event) => event['kind'] === 'image') as unknown as HostileResult['images'];
  const result: HostileResult = { kind, code, stderr, images, wrong: await wrongFiles() };
  await rm(join(folder, 'data'), { recursive: true, force: true });
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
const end: HostileEnd = { maxRssBytes: await maxRssBytes() };
process.stdout.write(`${JSON.stringify(end)}\n`);

/**
 * The most memory that this process has had. Where Linux tells it, not what `getrusage` says: that has what the process had
 * from which it was made, a test runner of any size.
 */
async function maxRssBytes(): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  const [, kibibytes = process.resourceUsage().maxRSS] = /^VmHWM:\s+(\d+) kB$/m.exec(status) ?? [];
  return Number(kibibytes) * 1024;
}

async function wrongFiles(): Promise<string[]> {
  const wrong = (await readdir(folder)).filter((name) => !['a.tar', 'data', 'millpond.yaml'].includes(name));
  const found = await readdir(join(folder, 'data/blobs'), { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of found.filter((candidate) => !candidate.isDirectory())) {
    const path = join(entry.parentPath, entry.name);
    const isRight = entry.isFile() && localBlob(await readFile(path)).digest === `sha256:${entry.name}`;
    if (!isRight) wrong.push(path);
  }
  return wrong;
}
