import { closeSync, fstatSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SpareDescriptors } from '../../src/front/spare-descriptors.ts';
import { systemCalls } from '../../src/front/system-calls.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

const calls = systemCalls();

test.skipIf(calls === undefined)('where no descriptor is left, a spare one is used, and had again later', async () => {
  await using folder = await temporaryDirectory();
  const path = join(folder.path, 'file');
  writeFileSync(path, 'x');
  let isFull = false;
  const duplicate = (fd: number): number => {
    if (isFull) throw new Error('no descriptor is left');
    return calls!.duplicate(fd);
  };
  using spare = new SpareDescriptors({ ...calls!, duplicate }, { count: 2 });
  const fd = openSync(path, 'r');
  const { ino } = fstatSync(fd);
  isFull = true;
  const made = [1, 2, 3, 4, 5].map(() => spare.duplicate(fd));
  expect(new Set([fd, ...made]).size).toBe(6);
  for (const one of made) expect(fstatSync(one).ino).toBe(ino);
  isFull = false;
  made.push(spare.duplicate(fd));
  for (const one of [fd, ...made]) closeSync(one);
});
