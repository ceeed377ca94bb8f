import { spawn } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { folders, type MutatedFolder } from './mutation/folders.ts';
import { type Mutant, mutantsOf, sampleOf, withMutant } from './mutation/mutants.ts';
import { report, type Verdict } from './mutation/report.ts';
import { sourcesOf, testsFor } from './mutation/tests.ts';

const usage = `Usage: npm run mutation -- [--folder NAME]… [--file src/PATH]… [--sample N] [--seed N] [--workers N] [--near] [--output FILE]

Changes the code of a folder in one small way at a time, and runs the tests that should see it; with --near, only those of
its own folder. See docs/testing.md.`;

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
    near: { type: 'boolean', default: false },
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
  const sources = (await sourcesOf(root, name)).filter((source) => values.file?.includes(source) ?? true);
  const all = (await Promise.all(sources.map((source) => mutantsOf(root, source)))).flat();
  const sample = sampleOf(all, { size: Number(values.sample ?? all.length), seed: `${values.seed} ${name}` });
  console.log(`${name}: ${sample.length} of ${all.length} changes`);
  const queue = [...sample];
  const without = await failing(folder);
  const found: Verdict[] = [];
  const work = async (): Promise<void> => {
    await using place = await sandbox();
    for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
      const verdict = {
        folder: name,
        of: all.length,
        mutant,
        ...(await judge(place.path, mutant, { folder, without })),
      };
      found.push(verdict);
      const { file, line, mutator } = mutant;
      console.log(`${verdict.result.padEnd(8)} ${file}:${line} ${mutator} ${verdict.by ?? ''}`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers) }, work));
  return found;
}

async function failing(folder: MutatedFolder): Promise<string[]> {
  await using place = await sandbox();
  return await failingAlready(place.path, folder);
}

/** The test files that fail though nothing is changed: they would see every change, and are left out. */
async function failingAlready(place: string, folder: MutatedFolder): Promise<string[]> {
  const left: string[] = [];
  for (const tests of await testsFor(place, 'src', folder)) {
    const { failed, failures } = await runTests(place, tests, { bail: false });
    if (failed && failures.length === 0) throw new Error(`no test of ${tests.join(' ')} can be run`);
    left.push(...failures.map((failure) => failure.split(' ', 1)[0]!));
  }
  const files = [...new Set(left)];
  if (files.length > 0) console.log(`left out, since they fail without any change: ${files.join(' ')}`);
  return files;
}

/** Runs the tests of a change, the nearest first, until one fails. */
async function judge(
  place: string,
  mutant: Mutant,
  { folder, without }: { folder: MutatedFolder; without: readonly string[] },
): Promise<{ result: Verdict['result']; by?: string | undefined }> {
  const path = join(place, mutant.file);
  const original = await readFile(path, 'utf8');
  await writeFile(path, withMutant(original, mutant));
  try {
    for (const stage of await testsFor(place, mutant.file, folder)) {
      const tests = stage.filter((test) => !without.includes(test));
      const { failed, hung, failures } = await runTests(place, tests, { bail: true });
      if (hung) return { result: 'hung' };
      if (failed) return { result: 'killed', by: failures[0] };
    }
    return { result: 'survived' };
  } finally {
    await writeFile(path, original);
  }
}

async function runTests(
  place: string,
  tests: readonly string[],
  { bail }: { bail: boolean },
): Promise<{ failed: boolean; hung: boolean; failures: readonly string[] }> {
  if (tests.length === 0) return { failed: false, hung: false, failures: [] };
  const limits = [
    '--maxWorkers=1',
    '--testTimeout=40000',
    '--expect.poll.timeout=20000',
    ...(bail ? ['--bail=1'] : []),
  ];
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
  const timer = setTimeout(
    () => {
      hung = true;
      endGroup(vitest.pid);
    },
    bail ? stageTimeoutMs : 4 * stageTimeoutMs,
  );
  const code = await new Promise<number | null>((resolve) => vitest.once('close', resolve));
  clearTimeout(timer);
  endGroup(vitest.pid);
  const failures = [...output.matchAll(/FAIL {2}(.*)/g)].map(([, test]) => test!);
  return { failed: code !== 0, hung, failures };
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
