import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { folders, type MutatedFolder } from './mutation/folders.ts';
import { type Mutant, mutantsOf, sampleOf, withMutant } from './mutation/mutants.ts';
import { report, type Verdict } from './mutation/report.ts';
import { sourcesOf, testsFor } from './mutation/tests.ts';

const usage = `Usage: npm run mutation -- [--folder NAME]… [--file src/PATH]… [--sample N] [--seed N] [--workers N] [--output FILE]

Changes the code of a folder in one small way at a time, and runs the tests that should see it. See docs/testing.md.`;

/** What ends a run of tests that hangs: a change that makes one hang has been seen. */
const stageTimeoutMs = 240_000;

const { values } = parseArgs({
  options: {
    folder: { type: 'string', multiple: true },
    file: { type: 'string', multiple: true },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '1' },
    output: { type: 'string' },
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
  const folder = folders[name];
  if (folder === undefined) throw new Error(`${name} is none of ${Object.keys(folders).join(', ')}`);
  verdicts.push(...(await judgeFolder(name, folder)));
  if (values.output) await writeFile(values.output, `${JSON.stringify(verdicts, undefined, 1)}\n`);
}
console.log(report(verdicts));

async function judgeFolder(name: string, folder: MutatedFolder): Promise<Verdict[]> {
  const sources = (await sourcesOf(root, name)).filter((source) => values.file?.includes(source) ?? true);
  const all = (await Promise.all(sources.map((source) => mutantsOf(root, source)))).flat();
  const sample = sampleOf(all, { size: Number(values.sample ?? all.length), seed: `${values.seed} ${name}` });
  console.log(`${name}: ${sample.length} of ${all.length} changes`);
  const queue = [...sample];
  const found: Verdict[] = [];
  const work = async (): Promise<void> => {
    await using place = await sandbox();
    await requireGreen(place.path, folder);
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const verdict = { folder: name, of: all.length, mutant, ...(await judge(place.path, mutant, folder)) };
      found.push(verdict);
      const { file, line, mutator } = mutant;
      console.log(`${verdict.result.padEnd(8)} ${file}:${line} ${mutator} ${verdict.by ?? ''}`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers) }, work));
  return found;
}

/** @throws Error where a test fails though nothing is changed: then it would see every change */
async function requireGreen(place: string, folder: MutatedFolder): Promise<void> {
  for (const tests of await testsFor(place, 'src', folder)) {
    const { failed, by } = await runTests(place, tests);
    if (failed) throw new Error(`a test fails without any change: ${by ?? 'no test has run'}`);
  }
}

/** Runs the tests of a change, the nearest first, until one fails. */
async function judge(
  place: string,
  mutant: Mutant,
  folder: MutatedFolder,
): Promise<{ result: Verdict['result']; by?: string | undefined }> {
  const path = join(place, mutant.file);
  const original = await readFile(path, 'utf8');
  await writeFile(path, withMutant(original, mutant));
  try {
    for (const tests of await testsFor(place, mutant.file, folder)) {
      const { failed, hung, by } = await runTests(place, tests);
      if (hung) return { result: 'hung' };
      if (failed) return { result: 'killed', by };
    }
    return { result: 'survived' };
  } finally {
    await writeFile(path, original);
  }
}

async function runTests(
  place: string,
  tests: readonly string[],
): Promise<{ failed: boolean; hung: boolean; by: string | undefined }> {
  if (tests.length === 0) return { failed: false, hung: false, by: undefined };
  const limits = ['--bail=1', '--maxWorkers=1', '--testTimeout=40000', '--expect.poll.timeout=20000'];
  const vitest = spawn(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...limits, ...tests], {
    cwd: place,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  });
  let output = '';
  for (const stream of [vitest.stdout, vitest.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  let hung = false;
  const timer = setTimeout(() => {
    hung = true;
    endGroup(vitest.pid);
  }, stageTimeoutMs);
  const code = await new Promise<number | null>((resolve) => vitest.once('close', resolve));
  clearTimeout(timer);
  endGroup(vitest.pid);
  const [, by] = /FAIL {2}(.*)/.exec(output) ?? [];
  return { failed: code !== 0, hung, by };
}

/** Ends what a run of tests has left behind, such as a Redis whose test was cut off. */
function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has exited already.
  }
}

/** A copy of the project, so that nothing is ever changed in place; its packages are the same ones. */
async function sandbox() {
  const path = await mkdtemp(join(tmpdir(), 'millpond-mutation-'));
  const parts = ['src', 'test', 'bin', 'bench', 'deploy', 'docs', 'scripts'];
  for (const part of parts) await cp(join(root, part), join(path, part), { recursive: true });
  const files = [
    'package.json',
    'vitest.config.ts',
    'tsconfig.json',
    'README.md',
    'CONTRIBUTING.md',
    'docker-compose.yml',
  ];
  for (const file of files) await cp(join(root, file), join(path, file));
  await symlink(join(root, 'node_modules'), join(path, 'node_modules'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
