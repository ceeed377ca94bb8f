import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { copyFile, lstat, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pipeline } from 'node:stream/promises';
import { maxPartials } from '../../../src/store/files/sweep.ts';
import { get, json } from '../../support/client.ts';
import { temporaryDirectory } from '../../support/temporary-directory.ts';
import type { MovingTag, Workload } from './workload.ts';

/** What lies in a cache directory while no mirror runs on it. */
export class DiskCheck {
  readonly #dataDir: string;
  /** Files that have been hashed, and have not changed since. */
  readonly #hashed = new Map<string, string>();
  /** The most files that were under `ingest/` at a time. */
  mostPartials = 0;

  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  /** Blobs that have been found right. */
  get rightBlobs(): number {
    return this.#hashed.size;
  }

  /** Hashes everything again the next time. */
  forget(): void {
    this.#hashed.clear();
  }

  /** @returns what is wrong, in sentences */
  async violations(options: { readonly isSwept: boolean }): Promise<string[]> {
    return [...(await this.#wrongBlobs()), ...(await this.#wrongPartials(options)), ...(await this.#wrongCatalog())];
  }

  /** Names of the files under `ingest/`. */
  async partials(): Promise<string[]> {
    return await readdir(join(this.#dataDir, 'ingest'));
  }

  async #wrongBlobs(): Promise<string[]> {
    const wrong: string[] = [];
    for (const algorithm of await readdir(join(this.#dataDir, 'blobs'))) {
      for (const hex of await readdir(join(this.#dataDir, 'blobs', algorithm))) {
        const file = join(this.#dataDir, 'blobs', algorithm, hex);
        const { ino, size, mtimeMs } = await stat(file);
        const state = `${ino} ${size} ${mtimeMs}`;
        if (this.#hashed.get(file) === state) continue;
        const hash = createHash(algorithm);
        await pipeline(createReadStream(file), hash);
        if (hash.digest('hex') === hex) this.#hashed.set(file, state);
        else wrong.push(`${file} does not have its digest`);
      }
    }
    return wrong;
  }

  async #wrongPartials({ isSwept }: { isSwept: boolean }): Promise<string[]> {
    const names = await this.partials();
    this.mostPartials = Math.max(this.mostPartials, names.length);
    if (!isSwept) return [];
    const wrong: string[] = [];
    if (names.length > 2 * maxPartials) wrong.push(`${names.length} files pile up in ingest/`);
    for (const name of names) {
      const [partial = '', suffix] = name.split('.');
      if (suffix !== undefined && suffix !== 'prefix') wrong.push(`${name} outlived a start`);
      if (suffix === 'prefix' && !names.includes(partial)) wrong.push(`${name} outlived a start and its partial file`);
      const stored = join(this.#dataDir, 'blobs', partial.replace('-', '/'));
      if (await lstat(stored).catch(() => undefined)) wrong.push(`${name} is there beside the whole blob`);
    }
    return wrong;
  }

  /** On a copy: to open a database may mend it. */
  async #wrongCatalog(): Promise<string[]> {
    await using copy = await temporaryDirectory('catalog');
    for (const suffix of ['', '-wal']) {
      const name = `catalog.sqlite${suffix}`;
      await copyFile(join(this.#dataDir, name), join(copy.path, name)).catch(() => undefined);
    }
    try {
      using database = new DatabaseSync(join(copy.path, 'catalog.sqlite'));
      const rows = database.prepare('PRAGMA integrity_check').all();
      const [result] = rows.map((row) => row['integrity_check']);
      if (result !== 'ok') return [`the catalog is broken: ${String(result)}`];
    } catch (error) {
      return [`the catalog cannot be opened: ${String(error)}`];
    }
    const names = await readdir(this.#dataDir);
    return names.some((name) => name.endsWith('.broken')) ? ['a catalog was set aside as broken'] : [];
  }
}

/** What was asked of a mirror whose upstream is gone, and what it answered. */
export interface AloneReport {
  readonly violations: readonly string[];
  /** Tags that were answered with an image. */
  readonly served: number;
  /** Tags that were refused. */
  readonly refused: number;
}

/** Asks a mirror whose upstream is gone for everything: what it answers with success must be completable. */
export async function checkAlone(origin: string, workload: Workload): Promise<AloneReport> {
  const violations: string[] = [];
  // It finds out that the upstream is gone.
  const nothing = `sha256:${'0'.repeat(64)}`;
  for (let time = 0; time < 4; time += 1) await get(`${origin}/v2/library/one/blobs/${nothing}`);
  let served = 0;
  let refused = 0;
  for (const moving of workload.tags) {
    const { repository, tag, history } = moving;
    const head = await get(`${origin}/v2/${repository}/manifests/${tag}`, { method: 'HEAD' });
    const digest = await checkImage(`${origin}/v2/${repository}`, { reference: tag, moving, workload, violations });
    if (digest === undefined) refused += 1;
    else served += 1;
    if (head.status === 200 && digest === undefined) violations.push(`HEAD ${repository}:${tag} gave 200, GET did not`);
    if (head.status === 200 && head.headers['docker-content-digest'] !== digest) {
      violations.push(`HEAD and GET of ${repository}:${tag} differ`);
    }
    for (const manifest of history.slice(-3)) {
      await checkImage(`${origin}/v2/${repository}`, { reference: manifest.digest, moving, workload, violations });
    }
  }
  return { violations, served, refused };
}

/** Pulls an image as far as it is had; undefined where its manifest is refused. */
async function checkImage(
  base: string,
  options: { reference: string; moving?: MovingTag; workload: Workload; violations: string[] },
): Promise<string | undefined> {
  const { reference, moving, workload, violations } = options;
  const what = `${base}/manifests/${reference}`;
  const reply = await get(what);
  if (reply.status !== 200) {
    if (reply.status < 500 && reply.status !== 404) violations.push(`${what} gave ${reply.status}`);
    return undefined;
  }
  const { sha256 } = reply;
  if (!reply.complete || reply.headers['docker-content-digest'] !== sha256) violations.push(`${what} is not whole`);
  if (moving?.history.some(({ digest }) => digest === sha256) === false) violations.push(`${what} gave a stranger`);
  const children = workload.children.get(sha256);
  if (children !== undefined) {
    const found: (string | undefined)[] = [];
    for (const child of children) {
      found.push(await checkImage(base, { workload, violations, reference: child.digest }));
    }
    if (found.every((digest) => digest === undefined)) violations.push(`${what} was served, and no image of it`);
    return sha256;
  }
  const { config, layers } = json<{ config: { digest: string }; layers: { digest: string }[] }>(reply);
  for (const { digest } of [config, ...layers]) {
    const blob = await get(`${base}/blobs/${digest}`, { keepBody: false });
    const isRight = blob.status === 200 && blob.complete && blob.sha256 === digest;
    if (!isRight)
      violations.push(`${what} was served, and ${digest} gave ${blob.status} and ${blob.receivedBytes} bytes`);
  }
  return sha256;
}
