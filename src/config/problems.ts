import { formatOrigin, type Origin, type Origins } from './origins.ts';
import type { ConfigPath, SchemaProblem } from './schema-node.ts';
import { withoutSecrets } from './secret.ts';

/** A configuration cannot be used; each problem is one line that says where, what, and what is accepted. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    super(problems.join('\n'), options);
    this.problems = problems;
  }
}

/** Puts a problem into one line, with the place it comes from in front. */
export function formatProblem(problem: SchemaProblem, origins: Origins): string {
  const origin = origins.nearest(problem.path);
  return `${formatPlace(origin)}: ${formatMessage(problem)}`;
}

/** A path as it is read: `upstreams."docker.io".urls[0]`. */
export function formatPath(path: ConfigPath): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else text += `${text === '' ? '' : '.'}${/^\w+$/.test(step) ? step : JSON.stringify(withoutSecrets(step))}`;
  }
  return text;
}

/** The known word that is most like a mistyped one, or `undefined` where none is like it. */
export function nearestWord(word: string, known: readonly string[]): string | undefined {
  let nearest: { readonly word: string; readonly distance: number } | undefined;
  for (const candidate of known) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    const limit = Math.max(1, Math.floor(candidate.length / 3));
    if (distance <= limit && (nearest === undefined || distance < nearest.distance)) {
      nearest = { word: candidate, distance };
    }
  }
  return nearest?.word;
}

function formatPlace(origin: Origin): string {
  return origin.kind === 'environment' || origin.kind === 'flag'
    ? formatOrigin(origin).split(' ')[1]!
    : formatOrigin(origin);
}

function formatMessage(problem: SchemaProblem): string {
  switch (problem.kind) {
    case 'unknown key':
      return formatUnknownKey(problem);
    case 'wrong type':
      return `${formatPath(problem.path)}: ${problem.expected === 'list' ? 'accepted: a list' : 'accepted: a mapping (key: value)'}`;
    case 'refused':
      return `${formatPath(problem.path)}${problem.message.startsWith('is ') ? '' : ':'} ${problem.message}`;
    default:
      return problem satisfies never;
  }
}

function formatUnknownKey(problem: Extract<SchemaProblem, { kind: 'unknown key' }>): string {
  const around = problem.path.slice(0, -1);
  const within = around.length === 0 ? '' : ` in ${formatPath(around)}`;
  const nearest = nearestWord(problem.key, problem.known);
  const hint = nearest === undefined ? `accepted here: ${problem.known.join(', ')}` : `did you mean "${nearest}"?`;
  return `unknown key ${JSON.stringify(withoutSecrets(problem.key))}${within}; ${hint}`;
}

/** Optimal string alignment: insertions, deletions, replacements, and swaps of neighbours count one each. */
function editDistance(one: string, other: string): number {
  const rows: number[][] = [Array.from({ length: other.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const replaced = rows[row - 1]![column - 1]! + (one[row - 1] === other[column - 1] ? 0 : 1);
      let best = Math.min(rows[row - 1]![column]! + 1, current[column - 1]! + 1, replaced);
      if (row > 1 && column > 1 && one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1]) {
        best = Math.min(best, rows[row - 2]![column - 2]! + 1);
      }
      current.push(best);
    }
    rows.push(current);
  }
  return rows[one.length]![other.length]!;
}
