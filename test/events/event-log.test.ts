import { appendFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EventLog } from '../../src/events/event-log.ts';
import { temporaryFolder } from '../support/site.ts';

async function openLog(folder: string, keep = 100_000): Promise<EventLog> {
  const onFault = (error: unknown): void => {
    throw error;
  };
  return await EventLog.open({ folder, keep: () => keep, now: () => 1_000, onFault });
}

function addMany(log: EventLog, count: number): void {
  for (let index = 0; index < count; index += 1) log.add({ kind: 'pushed', repository: 'local/app' });
}

const numbers = (events: readonly { readonly number: number }[]) => events.map(({ number }) => number);

test('events are numbered on after a restart, and read from where a reader has got', async () => {
  await using folder = await temporaryFolder();
  let id: string;
  {
    await using log = await openLog(folder.path);
    id = log.id;
    addMany(log, 3);
    expect(numbers(await log.after(0, 10))).toEqual([1, 2, 3]);
  }
  await using log = await openLog(folder.path);
  expect({ id: log.id, last: log.last }).toEqual({ id, last: 3 });
  addMany(log, 2);
  expect(numbers(await log.after(1, 10))).toEqual([2, 3, 4, 5]);
  expect(numbers(await log.after(1, 2))).toEqual([2, 3]);
  expect(await log.after(5, 10)).toEqual([]);
});

test('more events than are in memory are read from the files, in order and whole', async () => {
  await using folder = await temporaryFolder();
  await using log = await openLog(folder.path);
  for (let round = 0; round < 5; round += 1) {
    addMany(log, 700);
    await log.flush();
  }
  const found: number[] = [];
  for (let last = 0; ; last = found.at(-1)!) {
    const events = await log.after(last, 300);
    if (events.length === 0) break;
    found.push(...numbers(events));
  }
  expect(found).toEqual(Array.from({ length: 3_500 }, (_, index) => index + 1));
});

test('only the latest are kept', async () => {
  await using folder = await temporaryFolder();
  await using log = await openLog(folder.path, 1_000);
  for (let round = 0; round < 6; round += 1) {
    addMany(log, 1_000);
    await log.flush();
  }
  expect((await readdir(folder.path)).length).toBeLessThan(5);
  const [first] = await log.after(0, 1);
  expect(first!.number).toBeGreaterThan(3_000);
});

test('a line that a kill has cut costs nothing but itself', async () => {
  await using folder = await temporaryFolder();
  {
    await using log = await openLog(folder.path);
    addMany(log, 2);
  }
  await appendFile(join(folder.path, '1.jsonl'), '{"number":3,"kin');
  await using log = await openLog(folder.path);
  addMany(log, 1);
  await log.flush();
  await using again = await openLog(folder.path);
  expect(numbers(await again.after(0, 10))).toEqual([1, 2, 3]);
});

test('no client gets an event that a kill could still take back', async () => {
  await using folder = await temporaryFolder();
  await using log = await openLog(folder.path);
  addMany(log, 3);
  expect(log.last).toBe(0);
  const events = await log.after(0, 10);
  // Another run goes on behind what was given.
  await using other = await openLog(folder.path);
  expect({ given: numbers(events), last: other.last }).toEqual({ given: [1, 2, 3], last: 3 });
});

test('who waits is woken by an event, and by a signal', async () => {
  await using folder = await temporaryFolder();
  await using log = await openLog(folder.path);
  const { signal } = new AbortController();
  const woken = log.news(0, signal);
  addMany(log, 1);
  await woken;
  await log.news(0, signal);
  const leaving = new AbortController();
  const left = log.news(1, leaving.signal);
  leaving.abort();
  await left;
  expect(log.last).toBe(1);
});

test('a log in a folder that cannot be written is one in memory', async () => {
  await using folder = await temporaryFolder();
  const faults: unknown[] = [];
  const path = join(folder.path, 'file');
  await appendFile(path, 'no folder');
  await using log = await EventLog.open({
    folder: path,
    keep: () => 1_000,
    now: () => 1_000,
    onFault: (error) => faults.push(error),
  });
  addMany(log, 2);
  await log.flush();
  expect(numbers(await log.after(0, 10))).toEqual([1, 2]);
  expect(faults.length).toBeGreaterThan(0);
});

test('types of events are short, however long those of a manifest are', async () => {
  await using folder = await temporaryFolder();
  await using log = await openLog(folder.path);
  const long = 't'.repeat(4_000_000);
  log.add({ kind: 'cached', repository: 'docker.io/app', mediaType: 'a/b', artifactType: long });
  log.add({ kind: 'cached', repository: 'docker.io/app', mediaType: long });
  const [first, second] = await log.after(0, 10);
  expect(first).toMatchObject({ mediaType: 'a/b', artifactType: long.slice(0, 255) });
  expect(second).toMatchObject({ mediaType: long.slice(0, 255) });
  expect(second).not.toHaveProperty('artifactType');
});
