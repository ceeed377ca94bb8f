import type { Mutant } from './mutants.ts';

/** What became of one change. */
export interface Verdict {
  readonly folder: string;
  /** How many changes there are in the folder. */
  readonly of: number;
  readonly mutant: Mutant;
  /** `hung`: a test did not end, which is seen too. */
  readonly result: 'killed' | 'hung' | 'survived';
  /** The test that failed. */
  readonly by?: string | undefined;
}

/** A table of the folders, and after it what no test has seen. */
export function report(verdicts: readonly Verdict[]): string {
  const rows = [...Map.groupBy(verdicts, ({ folder }) => folder)].map(([folder, all]) => {
    const survived = all.filter(({ result }) => result === 'survived').length;
    const score = ((100 * (all.length - survived)) / all.length).toFixed(0);
    return `| ${folder} | ${all[0]!.of} | ${all.length} | ${all.length - survived} | ${score} % |`;
  });
  const table = ['| folder | changes | tried | seen | score |', '|---|---|---|---|---|', ...rows];
  const survivors = verdicts
    .filter(({ result }) => result === 'survived')
    .map(
      ({ mutant: { file, line, original, replacement } }) =>
        `${file}:${line}\n  - ${oneLine(original)}\n  + ${oneLine(replacement)}`,
    );
  return [...table, '', ...survivors].join('\n');
}

function oneLine(code: string): string {
  const text = code.replaceAll(/\s+/g, ' ');
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
