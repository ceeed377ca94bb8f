import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith, toolPath } from '../support/tools.ts';

/** One call of the system that has ended, with the paths of the files it was about. */
interface SystemCall {
  readonly name: string;
  readonly paths: readonly string[];
}

describeWith(['strace'], 'a blob', () => {
  test('is on the disk before it has its name, and its name before anybody relies on it', async () => {
    await using upstream = await startRegistry();
    await using folder = await temporaryDirectory('synced');
    const directory = join(folder.path, 'serve');
    await mkdir(directory);
    const log = join(folder.path, 'calls');
    const through = [
      toolPath('strace'),
      // As a grandchild, so that the mirror itself gets the signal.
      '-D',
      '-f',
      '-y',
      '-qq',
      '-e',
      'trace=fsync,fdatasync,rename,renameat,renameat2',
      '-o',
      log,
    ];
    const config = { upstreams: { 'docker.io': { urls: [upstream.origin] } } };
    await using mirror = await startMillpond(config, { directory, through });
    const small = upstream.addBlob('a small blob');
    const large = upstream.addBlob({ size: 3 * 1024 * 1024, seed: 'synced' });
    const { digest, config: own } = upstream.addImage('library/app', '1', { layers: [large] });
    for (const path of [`blobs/${small.digest}`, 'manifests/1', `blobs/${large.digest}`, `blobs/${own.digest}`]) {
      expect((await get(`${mirror.origin}/v2/library/app/${path}`)).status).toBe(200);
    }
    const stages = async (blob: string): Promise<string[]> =>
      stagesOf(await callsIn(log), join(directory, 'data', 'blobs', blob.replace(':', '/')));
    await expect.poll(() => stages(large.digest)).toEqual(['file', 'name', 'folder']);
    // What is compared with its digest each time that it is read need not be synced first (decision 14).
    for (const blob of [small.digest, own.digest, digest]) await expect.poll(() => stages(blob)).toContain('name');
  });
});

/** What was done of it: its bytes synced, then its name given, then the folder synced. */
function stagesOf(calls: readonly SystemCall[], target: string): string[] {
  const named = calls.findIndex(({ name, paths }) => name.startsWith('rename') && paths.at(-1) === target);
  if (named === -1) return [];
  const source = calls[named]!.paths[0];
  const isSync = ({ name }: SystemCall): boolean => name === 'fsync' || name === 'fdatasync';
  const isFileSynced = calls.slice(0, named).some((call) => isSync(call) && call.paths[0] === source);
  const folder = target.slice(0, target.lastIndexOf('/'));
  const isFolderSynced = calls.slice(named).some((call) => isSync(call) && call.paths[0] === folder);
  return [...(isFileSynced ? ['file'] : []), 'name', ...(isFolderSynced ? ['folder'] : [])];
}

/** The calls that strace has written, each where it ended. */
async function callsIn(log: string): Promise<SystemCall[]> {
  const begun = new Map<string, string>();
  const calls: SystemCall[] = [];
  for (const line of (await readFile(log, 'utf8')).split('\n')) {
    const [, pid = '', text = ''] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const unfinished = / <unfinished \.\.\.>$/.exec(text);
    if (unfinished) begun.set(pid, text.slice(0, unfinished.index));
    else {
      const whole = text.startsWith('<... ') ? (begun.get(pid) ?? '') + text : text;
      const [, name = ''] = /^(\w+)\(/.exec(whole) ?? [];
      const paths = [...whole.matchAll(/\d+<([^>]+)>|"([^"]+)"/g)].map(([, open, given]) => (open ?? given)!);
      if (name !== '' && whole.endsWith(' = 0')) calls.push({ name, paths });
    }
  }
  return calls;
}
