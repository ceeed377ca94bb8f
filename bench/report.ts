import { cpus, release, totalmem } from 'node:os';
import type { Check, RowResult } from './row.ts';

/** What the figures were measured on. */
export interface Machine {
  readonly date: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGB: number;
  readonly kernel: string;
  readonly node: string;
}

export function describeMachine(): Machine {
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGB: Math.round(totalmem() / 1e9),
    kernel: release(),
    node: process.version,
  };
}

/** A row as text for a terminal. */
export function asText(row: RowResult): string {
  const lines = [`${row.name}: ${row.work} (${row.repetitions} repetitions, medians)`];
  const table = tableOf(row);
  const widths = table[0]?.map((_, column) => Math.max(...table.map((cells) => cells[column]?.length ?? 0))) ?? [];
  for (const cells of table) {
    lines.push(`  ${cells.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join('  ')}`);
  }
  for (const check of row.checks) {
    lines.push(`  ${check.reached ? 'reached    ' : 'NOT REACHED'}  ${check.target}: ${measuredOf(check)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** All rows as the figures of `docs/benchmarks.md`. */
export function asMarkdown(rows: readonly RowResult[], machine: Machine): string {
  const summary = rows.flatMap((row) =>
    row.checks.map((check) => [row.work, check.target, measuredOf(check), check.reached ? 'yes' : '**no**']),
  );
  const { date, cpu, cores, memoryGB, kernel, node } = machine;
  return [
    `Measured on ${date} with \`npm run bench -- --write\`: ${cores} cores of ${cpu}, ${memoryGB} GB of memory, ` +
      `Linux ${kernel}, Node ${node}.`,
    markdownTable([['work', 'target', 'measured', 'reached'], ...summary]),
    ...rows.flatMap((row) => [
      `**${row.work}** (\`${row.name}\`, medians of ${row.repetitions})`,
      markdownTable(tableOf(row)),
    ]),
  ].join('\n\n');
}

/** The document with its figures replaced. @throws Error when the two markers are not there */
export function withFigures(document: string, figures: string): string {
  const begin = '<!-- figures: begin -->';
  const end = '<!-- figures: end -->';
  const start = document.indexOf(begin);
  const stop = document.indexOf(end);
  if (start < 0 || stop < start) throw new Error(`there is no place for figures between ${begin} and ${end}`);
  return `${document.slice(0, start + begin.length)}\n\n${figures}\n\n${document.slice(stop)}`;
}

function tableOf({ figures }: RowResult): string[][] {
  const columns = Object.keys(figures[0]?.values ?? {});
  return [
    ['', ...columns],
    ...figures.map(({ contestant, values }) => [contestant, ...columns.map((column) => format(values[column]))]),
  ];
}

function measuredOf({ measured, remark }: Check): string {
  return `${format(measured)}${remark === undefined ? '' : ` (${remark})`}`;
}

function format(value: number | undefined): string {
  if (value === undefined) return '–';
  if (Number.isInteger(value)) return String(value);
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 0.1 ? 2 : 3;
  return value.toFixed(digits);
}

function pad(cell: string, width: number, column: number): string {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}

function markdownTable([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}
