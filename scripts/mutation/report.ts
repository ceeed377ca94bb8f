import type { Mutant } from './mutants.ts';

/** What became of one change. */
export interface Verdict {
  readonly folder: string;
  /** How many changes there are in the folder. */
  readonly of: number;
  readonly mutant: Mutant;
  /** `hung`: a test did not end, which is seen too. `unreached`: no test runs the code. */
  readonly result: 'killed' | 'hung' | 'survived' | 'unreached';
  /** The test that failed. */
  readonly by?: string | undefined;
}

const isUnseen = ({ result }: Verdict): boolean => result === 'survived' || result === 'unreached';

/** A table of the folders, and after it what no test has seen. */
export function report(verdicts: readonly Verdict[]): string {
  const rows = [...Map.groupBy(verdicts, ({ folder }) => folder)].map(([folder, all]) => {
    const survived = all.filter(isUnseen).length;
    const score = ((100 * (all.length - survived)) / all.length).toFixed(0);
    return `| ${folder} | ${all[0]!.of} | ${all.length} | ${all.length - survived} | ${score} % |`;
  });
  const table = ['| folder | changes | tried | seen | score |', '|---|---|---|---|---|', ...rows];
  const survivors = verdicts
    .filter(isUnseen)
    .map(
      ({ result, mutant: { file, line, original, replacement } }) =>
        `${file}:${line}${result === 'unreached' ? ' (no test runs it)' : ''}\n  - ${oneLine(original)}\n  + ${oneLine(replacement)}`,
    );
  return [...table, '', ...survivors].join('\n');
}

function oneLine(code: string): string {
  const text = code.replaceAll(/\s+/g, ' ');
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}
