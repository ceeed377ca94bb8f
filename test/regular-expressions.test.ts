import { parse } from '@babel/parser';
import { analyse } from 'scslre';
import { describe, expect, test, vi } from 'vitest';
import { sourceTexts } from './docs/pages.ts';

/** Text of an operator, or of a person at a terminal: a slow pattern delays only its author. */
const ownWords = ['src/config/', 'src/cli/'];

interface Found {
  readonly file: string;
  readonly line: number;
  readonly pattern: RegExp;
}

/** The regular expressions of a source, and where one is put together while it runs. */
function expressionsIn(file: string, text: string): { found: Found[]; made: string[] } {
  const { tokens } = parse(text, { sourceType: 'module', plugins: ['typescript'], tokens: true });
  const found: Found[] = [];
  const made: string[] = [];
  for (const token of tokens as { type: { label: string }; value: unknown; loc: { start: { line: number } } }[]) {
    const { line } = token.loc.start;
    if (token.type.label === 'regexp') {
      const { pattern, flags } = token.value as { pattern: string; flags: string };
      found.push({ file, line, pattern: new RegExp(pattern, flags) });
    }
    if (token.type.label === 'name' && token.value === 'RegExp') made.push(`${file}:${line}`);
  }
  return { found, made };
}

/** The expressions that a file puts together while it is loaded. */
async function madeBy(file: string): Promise<RegExp[]> {
  const made: RegExp[] = [];
  class Recorded extends RegExp {
    constructor(pattern: string | RegExp, flags?: string) {
      super(pattern, flags);
      const isOwn = new Error('made here').stack?.split('\n')[2]?.includes(file) === true;
      if (isOwn) made.push(new original(pattern, flags));
    }
  }
  const original = RegExp;
  vi.resetModules();
  vi.stubGlobal('RegExp', Recorded);
  try {
    await import(/* @vite-ignore */ `../${file}`);
  } finally {
    vi.unstubAllGlobals();
  }
  return made;
}

describe('the regular expressions that read what others have written', () => {
  test('take no longer than the text is long', async () => {
    const texts = [...(await sourceTexts(['src']))].filter(([file]) => !ownWords.some((own) => file.startsWith(own)));
    const all = texts.map(([file, text]) => expressionsIn(file, text));
    const expressions = all.flatMap(({ found }) => found);
    expect(expressions.length).toBeGreaterThan(40);
    const slow = expressions.filter(({ pattern }) => analyse(pattern).reports.length > 0);
    expect(slow.map(({ file, line, pattern }) => `${file}:${line} ${pattern}`)).toEqual([]);
  });

  test('also where they are put together: once, when their file is loaded', async () => {
    const texts = [...(await sourceTexts(['src']))].filter(([file]) => !ownWords.some((own) => file.startsWith(own)));
    for (const [file, text] of texts) {
      const { made } = expressionsIn(file, text);
      if (made.length === 0) continue;
      const loaded = await madeBy(file);
      expect([file, loaded.length]).toEqual([file, made.length]);
      for (const pattern of loaded)
        expect([file, String(pattern), analyse(pattern).reports]).toEqual([file, String(pattern), []]);
    }
  });

  test.each([/\s+$/, /(a+)+b/, /a*a*b/, /^\s*(\d*)\s*$/])('would be found: %s', (pattern) => {
    expect(analyse(pattern).reports.length).toBeGreaterThan(0);
  });
});
