import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { type HostileArchive, harmlessArchive, hostileArchives } from './hostile/archives.ts';
import { outcomes } from './hostile/outcomes.ts';
import type { HostileEnd, HostileResult } from './hostile/run.ts';

const script = join(import.meta.dirname, 'hostile/run.ts');

/**
 * What one may take beyond what any archive takes, whatever that is on a machine. When garbage is collected is not ours to
 * say: the same archive takes some tens of MB more at one time than at another. What they unpack to is more than twice this.
 */
const mostExtraBytes = 120e6;

/** Imports archives one after another in a process of their own. */
async function imported(
  folder: string,
  archives: Iterable<HostileArchive>,
): Promise<{ results: HostileResult[]; maxRssBytes: number }> {
  const importer = spawn(process.execPath, ['--max-semi-space-size=4', script, folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: importer.stdout })[Symbol.asyncIterator]();
  const results: HostileResult[] = [];
  for (const { kind, bytes } of archives) {
    await writeFile(join(folder, 'a.tar'), bytes);
    importer.stdin.write(`${kind}\n`);
    results.push(JSON.parse(String((await answers.next()).value)));
  }
  importer.stdin.end();
  const { maxRssBytes } = JSON.parse(String((await answers.next()).value)) as HostileEnd;
  if (importer.exitCode === null) await once(importer, 'exit');
  return { results, maxRssBytes };
}

describe('200 hostile archives', () => {
  test('are each refused with one line or taken in right, within little memory', async () => {
    await using folder = await temporaryDirectory('hostile');
    const small: HostileArchive[] = [];
    const results: HostileResult[] = [];
    const usual = await imported(folder.path, [harmlessArchive()]);
    for (const archive of hostileArchives(20_261, 200)) {
      if (!archive.isLarge) {
        small.push(archive);
        continue;
      }
      const alone = await imported(folder.path, [archive]);
      const extraBytes = alone.maxRssBytes - usual.maxRssBytes;
      expect([archive.kind, extraBytes]).toEqual([
        archive.kind,
        expect.toSatisfy((bytes: number) => bytes < mostExtraBytes),
      ]);
      results.push(...alone.results);
    }
    results.push(...(await imported(folder.path, small)).results);
    expect(results).toHaveLength(200);
    expect(results.filter(({ wrong }) => wrong.length > 0)).toEqual([]);
    // One line, of what can be printed.
    const isRight = ({ code, stderr }: HostileResult): boolean =>
      code === 0 ? stderr === '' : code === 1 && /^millpond: [\x20-\x7e…]+\n$/.test(stderr);
    expect(results.filter((result) => !isRight(result))).toEqual([]);
    expect(results.filter(({ code, images }) => code === 0 && images.length === 0)).toEqual([]);
    // Each kind has its own ends, all of which are met, and no others.
    const isMet = ({ stderr }: HostileResult, end: RegExp): boolean => end.test(stderr.trimEnd());
    for (const [kind, all] of Map.groupBy(results, (result) => result.kind)) {
      const ends = outcomes[kind] ?? [];
      const others = all.filter((result) => !ends.some((end) => isMet(result, end)));
      expect([kind, others.map(({ stderr }) => stderr)]).toEqual([kind, []]);
      const unmet = ends.filter((end) => !all.some((result) => isMet(result, end)));
      expect([kind, unmet]).toEqual([kind, []]);
    }
    const taken = new Set(results.filter(({ code }) => code === 0).map(({ kind }) => kind));
    expect(taken.size).toBeGreaterThan(3);
    expect(results.filter(({ code }) => code === 1).length).toBeGreaterThan(120);
  });
});
