import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { idOf, type Reach, reachOf } from './mutation/coverage.ts';
import { folders, type MutatedFolder } from './mutation/folders.ts';
import { type Mutant, mutantsOf, sampleOf, withMutant } from './mutation/mutants.ts';
import { quickVerdicts } from './mutation/quick.ts';
import { report, type Verdict } from './mutation/report.ts';
import { runTests } from './mutation/run-tests.ts';
import { sandbox } from './mutation/sandbox.ts';
import { sourcesOf, stages, testsFor, testsOf } from './mutation/tests.ts';

const usage = `Usage: npm run mutation -- [--folder NAME]… [--file src/PATH]… [--sample N] [--seed N] [--workers N] [--near] [--quick] [--without TEST]… [--output FILE]

Changes the code of a folder in one small way at a time, and runs the tests that should see it; with --near, only those of
its own folder, with --quick only tests that take less than 1.5 s; --without leaves out tests. See docs/testing.md.`;

const { values } = parseArgs({
  options: {
    folder: { type: 'string', multiple: true },
    file: { type: 'string', multiple: true },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '1' },
    output: { type: 'string' },
    quick: { type: 'boolean', default: false },
    near: { type: 'boolean', default: false },
    without: { type: 'string', multiple: true, default: [] },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(usage);
  process.exit();
}

const root = join(import.meta.dirname, '..');
const named = values.folder ?? (values.file ?? []).map((file) => file.split('/')[1] ?? '');
const chosen = [...new Set(named.length === 0 ? Object.keys(folders) : named)];
const verdicts: Verdict[] = [];
for (const name of chosen) {
  const folder = folders[name] && { ...folders[name], ...(values.near && { far: [] }) };
  if (folder === undefined) throw new Error(`${name} is none of ${Object.keys(folders).join(', ')}`);
  verdicts.push(...(await judgeFolder(name, folder)));
  if (values.output) await writeFile(values.output, `${JSON.stringify(verdicts, undefined, 1)}\n`);
}
console.log(report(verdicts));

async function judgeFolder(name: string, folder: MutatedFolder): Promise<Verdict[]> {
  const all = await sourcesOf(root, name);
  const sources = all.filter((source) => values.file?.includes(source) ?? true);
  const changes = (await Promise.all(sources.map((source) => mutantsOf(root, source)))).flat();
  const sample = sampleOf(changes, { size: Number(values.sample ?? changes.length), seed: `${values.seed} ${name}` });
  console.log(`${name}: ${sample.length} of ${changes.length} changes`);
  const tests = (await testsOf(root, folder)).filter((test) => !values.without.some((start) => test.startsWith(start)));
  const quick = await quickVerdicts(root, { mutants: sample, sources: all, tests, slowMs: 1500 });
  const found: Verdict[] = [];
  const add = (mutant: Mutant, judged: Pick<Verdict, 'result' | 'by'>): void => {
    found.push({ folder: name, of: changes.length, mutant, ...judged });
    console.log(`${judged.result.padEnd(9)} ${mutant.file}:${mutant.line} ${mutant.mutator} ${judged.by ?? ''}`);
  };
  for (const mutant of sample) {
    const seen = quick.seen.get(idOf(mutant));
    if (seen !== undefined) add(mutant, seen);
    else if (values.quick) add(mutant, { result: quick.reached.has(idOf(mutant)) ? 'survived' : 'unreached' });
  }
  if (values.quick) return found;
  const reaches = await reachOf(root, { tests, sources: all });
  const queue = sample.filter((mutant) => !quick.seen.has(idOf(mutant)));
  const work = async (): Promise<void> => {
    await using place = await sandbox(root);
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const judged = quick.reached.has(idOf(mutant)) ? quick.complete : new Set<string>();
      const left = reaches.filter(({ test }) => !judged.has(test));
      const verdict = await judge(place.path, mutant, left);
      add(mutant, verdict.result === 'unreached' && left.length < reaches.length ? { result: 'survived' } : verdict);
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers) }, work));
  return found;
}

/** Runs the tests that reach a change, until one fails. */
async function judge(
  place: string,
  mutant: Mutant,
  reaches: readonly Reach[],
): Promise<{ result: Verdict['result']; by?: string | undefined }> {
  const tests = testsFor(mutant, reaches);
  if (tests.length === 0) return { result: 'unreached' };
  const path = join(place, mutant.file);
  const original = await readFile(path, 'utf8');
  await writeFile(path, withMutant(original, mutant));
  try {
    for (const stage of stages(tests)) {
      const limitMs = 20_000 + 5 * stage.reduce((sum, { tookMs }) => sum + tookMs, 0);
      const { failed, hung, failures } = await runTests(
        place,
        stage.map(({ test }) => test),
        { limitMs },
      );
      if (hung) return { result: 'hung' };
      if (failed) return { result: 'killed', by: failures[0] };
    }
    return { result: 'survived' };
  } finally {
    await writeFile(path, original);
  }
}
