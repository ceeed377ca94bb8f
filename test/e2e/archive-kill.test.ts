import { describe, expect, test } from 'vitest';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { killArchiveCommand } from './kill/archives.ts';

// `node bench/kill-archives.ts 50` does the same ten times as often.
describe('killed five times at random moments', () => {
  test.each(['import', 'export'] as const)(
    '%s completes when it is run again, and nothing wrong or partial is seen in between',
    async (command) => {
      await using directory = await temporaryDirectory('kill');
      const seed = 5;
      const report = await killArchiveCommand({ command, count: 5, seed, directory: directory.path });
      expect(report.violations, `seed ${seed}`).toEqual([]);
      expect(report.kills).toBeGreaterThan(0);
    },
  );
});
