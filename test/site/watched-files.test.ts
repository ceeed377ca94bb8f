import { rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import pino from 'pino';
import { expect, test } from 'vitest';
import { expiryConditions } from '../../src/site/certificates.ts';
import { type FileTexts, type FileUse, WatchedFiles } from '../../src/site/watched-files.ts';
import { mountRequirements, SmallDisk } from '../support/mounts.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

async function watched(refused: (texts: FileTexts) => boolean = () => false) {
  const owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryDirectory('files')).path;
  const taken: FileTexts[] = [];
  const files = owned.use(new WatchedFiles({ log: pino({ level: 'silent' }) }));
  const use: FileUse = {
    name: 'pair',
    files: { 'tls.certFile': join(folder, 'cert'), 'tls.keyFile': join(folder, 'key') },
    code: 'file-refused',
    take(texts) {
      if (refused(texts)) throw new Error('the two do not fit');
      taken.push(texts);
    },
  };
  const write = async (name: string, text: string): Promise<void> => await writeFile(join(folder, name), text);
  return { folder, taken, files, use, write, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

test('files are taken together, once for each change, however they are replaced', async () => {
  await using set = await watched();
  const { files, taken, write, folder } = set;
  await write('cert', '1');
  await write('key', '1');
  await files.take('tls', set.use);
  expect(await files.look()).toEqual([]);
  await write('key', '2');
  expect(await files.look()).toEqual(['tls.certFile', 'tls.keyFile']);
  // As Kubernetes does: a link is turned to a file of the same age and size.
  await write('other', '3');
  await symlink(join(folder, 'other'), join(folder, 'link'));
  await rename(join(folder, 'link'), join(folder, 'cert'));
  await files.look();
  expect(await files.look()).toEqual([]);
  expect(taken.map((texts) => Object.values(texts).join())).toEqual(['1,1', '1,2', '3,2']);
});

describeWith(mountRequirements(), 'a file system that gives times of a few milliseconds', () => {
  test('hides no change of a file that was read at the same time and has the same size', async () => {
    using disk = new SmallDisk('1m', { type: 'ramfs' });
    const file = join(disk.path, 'password');
    const taken: string[] = [];
    await using files = new WatchedFiles({ log: pino({ level: 'silent' }) });
    const take = ({ password }: FileTexts): void => void taken.push(password!);
    await writeFile(file, '0000');
    await files.take('group', { name: 'password', files: { password: file }, code: 'file-refused', take });
    const written = ['0000'];
    // Some of them are written within one of its milliseconds.
    for (let number = 1; number <= 200; number += 1) {
      written.push(String(number).padStart(4, '0'));
      await writeFile(file, written.at(-1)!);
      await files.look();
    }
    expect(await files.look()).toEqual([]);
    expect(taken).toEqual(written);
  });
});

test('what cannot be used is a condition until it can, and nothing is taken meanwhile', async () => {
  await using set = await watched(({ 'tls.certFile': cert, 'tls.keyFile': key }) => cert !== key);
  const { files, taken, write, folder } = set;
  await write('cert', '1');
  await write('key', '1');
  await files.take('tls', set.use);
  await write('cert', '2');
  expect(await files.look()).toEqual([]);
  expect(files.conditions(0)).toEqual([{ code: 'file-refused', text: 'the two do not fit' }]);
  await rm(join(folder, 'key'));
  await files.look();
  expect(files.conditions(0)).toEqual([
    { code: 'file-refused', text: `tls.keyFile: ${join(folder, 'key')} cannot be read: ENOENT` },
  ]);
  await write('key', '2');
  await files.look();
  expect(files.conditions(0)).toEqual([]);
  expect(taken).toHaveLength(2);
});

test('files that cannot be taken at the start are an error, those of a group that is replaced a condition', async () => {
  await using set = await watched();
  await expect(set.files.take('tls', set.use)).rejects.toThrow(/^tls\.certFile: .+ cannot be read: ENOENT$/);
  set.files.replace('others', [set.use]);
  await set.files.look();
  expect(set.files.conditions(0)).toHaveLength(1);
  set.files.replace('others', []);
  expect(set.files.conditions(0)).toEqual([]);
});

test.each([
  ['a certificate of 90 days', { days: 90, leftDays: 10 }, []],
  ['one of 90 days at the end', { days: 90, leftDays: 8 }, ['certificate-expiring']],
  ['one of three years', { days: 1_095, leftDays: 13 }, ['certificate-expiring']],
  ['one of a day', { days: 1, leftDays: 0.5 }, []],
  ['one that was good', { days: 90, leftDays: 0 }, ['certificate-expired']],
])('%s is reported in time', (_, { days, leftDays }, codes) => {
  const dayMs = 86_400_000;
  const untilMs = 10_000 * dayMs;
  const certificate = { key: 'tls.certFile', file: '/c', fromMs: untilMs - days * dayMs, untilMs };
  expect(expiryConditions([certificate], untilMs - leftDays * dayMs).map(({ code }) => code)).toEqual(codes);
});
