import type { Reporter, TestModule } from 'vitest/node';

/**
 * Ends a run with `N passed, N failed, N skipped` on a line of its own, after the reasons of the skipped and the names of
 * the tests that passed only when they were repeated.
 */
export class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string): number => tests.filter((test) => test.result().state === state).length;
    // A file that cannot be loaded and an error outside of any test fail the run as a test does.
    const broken = modules.filter((module) => module.errors().length > 0).length + unhandledErrors.length;
    const reasons = tests.flatMap((test) => {
      const result = test.result();
      return result.state === 'skipped' ? [`skipped: ${test.fullName}${result.note ? `: ${result.note}` : ''}\n`] : [];
    });
    const repeated = tests.flatMap((test) => {
      const attempts = test.result().state === 'passed' ? (test.diagnostic()?.retryCount ?? 0) : 0;
      return attempts > 0 ? [`repeated: ${test.module.relativeModuleId}: ${test.fullName}\n`] : [];
    });
    const closing = `${count('passed')} passed, ${count('failed') + broken} failed, ${count('skipped')} skipped`;
    process.stdout.write(`${reasons.join('')}${repeated.join('')}${closing}\n`);
  }
}
