import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Instrumenter } from '@stryker-mutator/instrumenter';

/** One small change to a source. */
export interface Mutant {
  /** The source within the project. */
  readonly file: string;
  /** Its number among the changes of the source. */
  readonly id: string;
  readonly line: number;
  /** Stryker's name of the kind of change. */
  readonly mutator: string;
  /** What is replaced: offsets of its first character, and after its last. */
  readonly start: number;
  readonly end: number;
  readonly original: string;
  readonly replacement: string;
}

const silent = {
  isTraceEnabled: () => false,
  isDebugEnabled: () => false,
  isInfoEnabled: () => false,
  isWarnEnabled: () => false,
  isErrorEnabled: () => false,
  isFatalEnabled: () => false,
  ...Object.fromEntries(['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map((level) => [level, () => undefined])),
};

/** Every change that Stryker would make to a source, but for the words of messages. */
export async function mutantsOf(root: string, file: string): Promise<Mutant[]> {
  return (await instrumented(root, file)).mutants.filter((mutant) => !isMessage(mutant));
}

/**
 * The source with calls of `stryCov_9fa48` wherever a change would be, which name the change; and all changes.
 * @returns a content that lacks the functions it calls
 */
export async function instrumented(root: string, file: string): Promise<{ content: string; mutants: Mutant[] }> {
  const content = await readFile(join(root, file), 'utf8');
  const lines = lineStarts(content);
  const offset = ({ line, column }: { line: number; column: number }): number => lines[line]! + column;
  const options = { plugins: null, ignorers: [], excludedMutations: [], noHeader: true } as never;
  const instrumenter = new Instrumenter(silent as never);
  const result = await instrumenter.instrument([{ name: file, content, mutate: true }], options);
  const mutants = result.mutants.map((mutant): Mutant => {
    const { start, end } = mutant.location;
    const place = { start: offset(start), end: offset(end) };
    const original = content.slice(place.start, place.end);
    const { id, mutatorName: mutator, replacement } = mutant;
    return { file, id, line: start.line + 1, mutator, ...place, original, replacement };
  });
  return { content: result.files[0]!.content, mutants };
}

/** The source with the change. */
export function withMutant(content: string, { start, end, replacement }: Mutant): string {
  return content.slice(0, start) + replacement + content.slice(end);
}

/** As many of the changes as are wanted, the same ones for the same seed. */
export function sampleOf(mutants: readonly Mutant[], { size, seed }: { size: number; seed: string }): Mutant[] {
  const rank = (mutant: Mutant): string =>
    createHash('sha256').update(`${seed} ${mutant.file} ${mutant.start} ${mutant.replacement}`).digest('hex');
  return mutants
    .map((mutant) => ({ mutant, key: rank(mutant) }))
    .toSorted((one, other) => (one.key < other.key ? -1 : 1))
    .slice(0, size)
    .map(({ mutant }) => mutant);
}

/**
 * Sentences, and the cause of an error, are read by people, and nothing is decided by them. SQL and scripts for Redis are
 * code.
 */
function isMessage({ mutator, original }: Mutant): boolean {
  if (mutator === 'ObjectLiteral') return /^\{\s*cause: \w+,?\s*\}$/.test(original);
  if (mutator !== 'StringLiteral' || !/^['"`]/.test(original)) return false;
  const isCode = /\b(?:SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|BEGIN|WITH|redis\.call|local)\b/.test(original);
  return !isCode && /[a-z]+ [a-z]/i.test(original);
}

function lineStarts(content: string): number[] {
  const starts = [0];
  for (let index = 0; index < content.length; index += 1) if (content[index] === '\n') starts.push(index + 1);
  return starts;
}
