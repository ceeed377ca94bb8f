// Measures Millpond beside nginx and docker-registry: npm run bench -- [ROW…] [--json] [--write]
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { besideRow } from './beside.ts';
import { coldRows } from './cold.ts';
import { coldManyRows } from './cold-many.ts';
import { memoryRow } from './memory.ts';
import { ensurePrerequisites } from './prerequisites.ts';
import { clientCore } from './program.ts';
import { asMarkdown, asText, describeMachine, withFigures } from './report.ts';
import type { ContestantName, Row, RowOptions, RowResult } from './row.ts';
import { startRow } from './start.ts';
import { threadsRow } from './threads.ts';
import { tlsRow } from './tls.ts';
import { warmRows } from './warm.ts';
import { warmManyRow } from './warm-many.ts';

const rows: readonly Row[] = [
  ...warmRows,
  threadsRow,
  tlsRow,
  besideRow,
  warmManyRow,
  ...coldRows,
  ...coldManyRows,
  memoryRow,
  startRow,
];
const names: readonly ContestantName[] = ['millpond', 'nginx', 'docker-registry', 'direct', 'node'];

const usage = `usage: npm run bench -- [ROW…] [options]
rows: ${rows.map(({ name }) => name).join(', ')} (default: all)
  --only NAMES         contestants, by commas, of ${names.join(', ')} (default: all)
  --repetitions N      (default 3)
  --seconds N          length of one measurement of a warm row (default 2)
  --threads N          threads of Millpond and workers of nginx, on as many cores (default 1)
  --json               print JSON
  --write              put the figures of all rows into docs/benchmarks.md
  --profile DIR        let Millpond write CPU profiles there, one for each row`;

function readOptions(): { rows: readonly Row[]; json: boolean; write: boolean; options: RowOptions } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', default: names.join(',') },
      repetitions: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '2' },
      threads: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      profile: { type: 'string' },
    },
  });
  const unknown = positionals.find((name) => !rows.some((row) => row.name === name));
  if (unknown !== undefined) throw new Error(`there is no row ${unknown}`);
  if (values.write && positionals.length > 0) throw new Error('--write takes all rows');
  const contestants = new Set(names.filter((name) => values.only.split(',').includes(name)));
  const [repetitions, seconds] = [Number(values.repetitions), Number(values.seconds)];
  if (!(repetitions >= 1 && repetitions <= 100)) throw new Error('--repetitions takes 1 to 100');
  const threads = Number(values.threads);
  if (!(threads >= 1 && threads <= 64)) throw new Error('--threads takes 1 to 64');
  if (!(seconds >= 1 && seconds <= 60)) throw new Error('--seconds takes 1 to 60');
  const profileDirectory = values.profile === undefined ? undefined : resolve(values.profile);
  return {
    rows: positionals.length === 0 ? rows : rows.filter(({ name }) => positionals.includes(name)),
    json: values.json,
    write: values.write,
    options: {
      contestants,
      repetitions: Math.floor(repetitions),
      seconds: Math.floor(seconds),
      threads: Math.floor(threads),
      profileDirectory,
    },
  };
}

async function run(): Promise<void> {
  const { rows: wanted, json, write, options } = readOptions();
  ensurePrerequisites();
  // What this process does is not to slow the servers.
  execFileSync('taskset', ['-a', '-c', '-p', String(clientCore), String(process.pid)], { stdio: 'ignore' });
  const results: RowResult[] = [];
  for (const row of wanted) {
    const result = await row.measure(options);
    results.push(result);
    if (!json) console.log(asText(result));
  }
  const machine = describeMachine();
  if (json) console.log(JSON.stringify({ machine, rows: results }, undefined, 2));
  if (!write) return;
  const file = fileURLToPath(new URL('../docs/benchmarks.md', import.meta.url));
  writeFileSync(file, withFigures(readFileSync(file, 'utf8'), asMarkdown(results, machine)));
}

// Leaving by `exit` ends the servers and removes their folders.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
try {
  await run();
} catch (error) {
  console.error(error instanceof Error ? `${error.message}\n${usage}` : error);
  process.exitCode = 1;
}
