import { tmpdir } from 'node:os';
import { beforeAll, describe, expect, test } from 'vitest';
import { runCommand } from '../support/commands.ts';
import { allPages, pageText } from './pages.ts';

/** Those that every command takes and that only some list in their help. */
const acceptedByAll = ['--config', '--listen', '--cache-dir', '--redis', '--log-level', '--help'];

/** What a command's help says. */
interface Help {
  readonly options: readonly string[];
  readonly subcommands: readonly string[];
}

const helps = new Map<string, Help>();

async function readHelp(words: readonly string[]): Promise<void> {
  const { code, stdout } = await runCommand([...words, '--help'], tmpdir());
  expect(code).toBe(0);
  const [, listed = ''] = /^Commands:\n([^]*)/m.exec(stdout) ?? [];
  const subcommands = [...listed.matchAll(/^ {2}(\w+)/gm)]
    .map(([, name = '']) => name)
    .filter((name) => name !== 'help');
  const options = [...stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, name = '']) => name);
  helps.set(words.join(' '), { options, subcommands });
  for (const name of subcommands) await readHelp([...words, name]);
}

beforeAll(async () => {
  await readHelp([]);
});

/** A command line in a page, without pipes and comments. */
interface CommandLine {
  readonly page: string;
  readonly text: string;
}

function commandLines(page: string, text: string): CommandLine[] {
  const joined = text.replaceAll(/\\\n\s*/g, ' ').replaceAll('\\|', '|');
  const quoted = [...joined.matchAll(/`([^`\n]*)`/g)].map(([, words = '']) => words);
  const blocks = [...joined.matchAll(/^```(?:sh|)\n([^]*?)^```$/gm)].flatMap(([, block = '']) => block.split('\n'));
  const indented = [...joined.matchAll(/^ {4}(\S.*)$/gm)].map(([, line = '']) => line);
  return [...quoted, ...blocks, ...indented]
    .flatMap((line) =>
      line
        .replace(/^\$ /, '')
        .replace(/ {2,}#.*$/, '')
        .split(/ \| | && |; /),
    )
    .filter((line) => /^(?:npx |bin\/|kubectl .* -- |docker exec \S+ )?millpond [a-z]/.test(line))
    .map((line) => ({ page, text: line.replace(/^(?:.* -- )?(?:.*?[ /])??millpond /, '') }));
}

describe('commands in the documentation', () => {
  test('every command line names a command, and options that it has', async () => {
    const wrong: string[] = [];
    let count = 0;
    for (const { name, text } of await allPages()) {
      for (const line of commandLines(name, text)) {
        count += 1;
        const [first = '', second = ''] = line.text.split(' ');
        const command = helps.has(`${first} ${second}`) ? `${first} ${second}` : first;
        const help = helps.get(command);
        const options = [...line.text.matchAll(/(?<=\s)(--[a-z][\w-]*)/g)].map(([, option = '']) => option);
        const unknown = options.filter((option) => !help?.options.includes(option) && !acceptedByAll.includes(option));
        if (help === undefined || unknown.length > 0) wrong.push(`${line.page}: ${line.text}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(count).toBeGreaterThan(40);
  });

  test('docs/commands.md has a section for every command, with every option of its help', async () => {
    const page = await pageText('docs/commands.md');
    const sections = page.split(/^## /m).slice(1);
    const missing: string[] = [];
    for (const [command, { options }] of helps) {
      if (command === '') continue;
      const [name = ''] = command.split(' ');
      const section = sections.find((text) => (text.split('\n', 1)[0] ?? '').split(', ').includes(name));
      if (section === undefined) missing.push(command);
      const known = ['--version', ...acceptedByAll];
      for (const option of options) {
        if (!known.includes(option) && section?.includes(option) !== true) missing.push(`${command} ${option}`);
      }
    }
    expect(missing).toEqual([]);
    expect(helps.size).toBeGreaterThan(12);
  });

  test('docs/commands.md names in its tables no option that the command lacks', async () => {
    const page = await pageText('docs/commands.md');
    const wrong: string[] = [];
    for (const section of page.split(/^## /m).slice(1)) {
      const names = (section.split('\n', 1)[0] ?? '').split(', ');
      const known = names.flatMap((name) => helps.get(name)?.options ?? []);
      for (const [, option = ''] of section.matchAll(/^\| `(--[\w-]+)/gm)) {
        if (!known.includes(option)) wrong.push(`${names.join(', ')}: ${option}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('config schema takes no options, as the page says', () => {
    expect(helps.get('config schema')?.options).toEqual(['--help']);
  });
});
