import { createHash } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { instrumented, type Mutant } from './mutants.ts';
import { runTests } from './run-tests.ts';
import { sandbox } from './sandbox.ts';

/** What one file of tests reaches when nothing is changed. */
export interface Reach {
  readonly test: string;
  readonly tookMs: number;
  /** It fails without any change, so that it would see every change: it judges none. */
  readonly fails: boolean;
  /** The changes whose code it runs, in any process or thread: `src/store/files/extents.ts 12`. */
  readonly ids: ReadonlySet<string>;
}

/** The name of a change within {@link Reach.ids}. */
export const idOf = ({ file, id }: Mutant): string => `${file} ${id}`;

const limitMs = 900_000;

/** Outside the project: a file of tests runs again only after it or a source of the folder has changed. */
const kept = join(tmpdir(), 'millpond-mutation-reach');

/**
 * Runs each file of tests once with sources that note which of their parts are run.
 * @param sources the sources to look at
 */
export async function reachOf(
  root: string,
  { tests, sources }: { tests: readonly string[]; sources: readonly string[] },
): Promise<Reach[]> {
  const shared = await stateOf(root, sources);
  await using place = await sandbox(root);
  for (const source of sources) {
    const { content, mutants } = await instrumented(root, source);
    if (mutants.length > 0) await writeFile(join(place.path, source), content + noting(source));
  }
  const found: Reach[] = [];
  for (const test of tests) {
    const key = createHash('sha256')
      .update(shared)
      .update(await readFile(join(root, test)))
      .digest('hex');
    const path = join(kept, `${key}.json`);
    const reach = (await read(path)) ?? (await measure(place.path, test, path));
    if (reach.fails) console.log(`left out, since it fails without any change: ${test}`);
    found.push(reach);
  }
  return found;
}

async function measure(place: string, test: string, path: string): Promise<Reach> {
  const notes = join(place, 'reached');
  await writeFile(notes, '');
  const { failed, failures, tookMs } = await runTests(place, [test], { limitMs, env: { MUTATION_REACHED: notes } });
  if (failed && failures.length === 0) throw new Error(`${test} cannot be run`);
  const ids = [...new Set((await readFile(notes, 'utf8')).split('\n').filter((line) => line !== ''))];
  await rm(notes);
  const reach = { test, tookMs, fails: failed, ids };
  if (!failed) {
    await mkdir(kept, { recursive: true });
    await writeFile(path, JSON.stringify(reach));
  }
  return { ...reach, ids: new Set(ids) };
}

async function read(path: string): Promise<Reach | undefined> {
  try {
    const reach = JSON.parse(await readFile(path, 'utf8')) as Reach & { readonly ids: readonly string[] };
    return { ...reach, ids: new Set(reach.ids) };
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The sources that note what is reached. The rest of the project decides little about that, and changes all the time. */
async function stateOf(root: string, sources: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of [...sources, 'scripts/mutation/coverage.ts'])
    hash.update(file).update(await readFile(join(root, file)));
  return hash.digest('hex');
}

/** What the sources call when a part is reached; a line is written at once, since a process may be killed. */
function noting(source: string): string {
  return `
function stryNS_9fa48() {}
function stryMutAct_9fa48(_id) { return false; }
function stryCov_9fa48(...ids) {
  const seen = (stryCov_9fa48.seen ??= new Set());
  for (const id of ids) {
    if (seen.has(id) || !process.env.MUTATION_REACHED) continue;
    seen.add(id);
    try {
      process.getBuiltinModule('node:fs').appendFileSync(process.env.MUTATION_REACHED, ${JSON.stringify(`${source} `)} + id + '\\n');
    } catch {}
  }
}
`;
}
