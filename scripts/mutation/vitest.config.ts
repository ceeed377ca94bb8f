import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** The project's own settings, but for the order: the files of tests run as `MUTATION_ORDER` lists them. */
const order = (process.env['MUTATION_ORDER'] ?? '').split('\n');

/** Or they judge many changes in one process. */
const switching =
  process.env['MUTATION_PLAN'] === undefined
    ? { bail: 1 }
    : { runner: 'scripts/mutation/switching-runner.ts', isolate: false, fileParallelism: false };

class AsListed {
  shard<Files>(files: Files): Files {
    return files;
  }

  sort<File extends { readonly moduleId: string }>(files: File[]): File[] {
    const place = ({ moduleId }: File): number => order.findIndex((test) => moduleId.endsWith(`/${test}`));
    return files.toSorted((one, other) => place(one) - place(other));
  }
}

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/**/*.test.ts'],
    maxWorkers: 1,
    ...switching,
    expect: { poll: { interval: 10, timeout: Number(process.env['MUTATION_POLL_MS'] ?? 20_000) } },
    sequence: { sequencer: AsListed },
  },
});
