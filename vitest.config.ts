import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { ClosingLine } from './test/support/closing-line.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    reporters: ['default', new ClosingLine()],
    // They mostly wait for processes and sockets: two files at once take little more than one, on two cores too.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Tests wait for events: these only end what hangs, on the slowest machine too.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    // A test that passes only when it is repeated does not end the work of others, and is named at the end of the run.
    retry: 2,
    expect: { poll: { interval: 10, timeout: 180_000 } },
  },
});
