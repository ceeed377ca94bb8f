import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../../src/cli/program.ts';
import { counted, plural } from '../../src/cli/terminal.ts';
import { clientAddress } from '../../src/http/client-address.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryFolder } from '../support/site.ts';
import { run } from './spawn.ts';

const checkout = fileURLToPath(new URL('../../', import.meta.url));

/** Moves the cursor, as progress on a terminal does. */
const cursor = '\x1b[';

/** Runs a command whose standard output is a pipe, and whose standard error is a terminal. */
async function runPiped(args: readonly string[], workingDirectory: string) {
  let [stdout, stderr] = ['', ''];
  const code = await runProgram(args, {
    stdout: {
      write: (chunk: string | Uint8Array, done?: () => void) => {
        stdout += Buffer.from(chunk as string).toString('latin1');
        done?.();
      },
    },
    stderr: { isTTY: true, columns: 120, write: (text: string) => void (stderr += text) },
    stdin: Readable.from([]),
    environment: {},
    workingDirectory,
  });
  return { code, stdout, stderr };
}

test('fetch, export, import and verify in a pipe show progress on standard error alone', async () => {
  await using upstream = await startRegistry();
  upstream.addImage('library/nginx', '1', { layers: [{ size: 3_000_000 }] });
  await using folder = await temporaryFolder();
  const config = { upstreams: { 'docker.io': { urls: [upstream.origin] } } };
  await writeFile(join(folder.path, 'millpond.yaml'), JSON.stringify(config));
  for (const args of [
    ['fetch', 'nginx:1'],
    ['fetch', 'nginx:1', '--json'],
    ['export', 'nginx:1', '--output', join(folder.path, 'out.tar')],
    ['export', 'nginx:1', '--output', '-'],
    ['import', join(folder.path, 'out.tar')],
    ['verify'],
  ]) {
    const { code, stdout, stderr } = await runPiped(args, folder.path);
    expect({ args, code, said: code === 0 ? '' : stderr }).toEqual({ args, code: 0, said: '' });
    // An archive is nothing but blocks of 512 bytes, which may contain anything.
    if (args.at(-1) === '-') expect(stdout.length % 512).toBe(0);
    else expect([args, stdout.includes(cursor)]).toEqual([args, false]);
    if (args[0] === 'fetch' && args.length === 2) expect(stderr).toContain(cursor);
  }
});

describe('how to run the commands', () => {
  test.each([
    ['README.md', /^ *(?:npx |bin\/)?millpond [a-z]/m],
    ['docs/commands.md', /^## /m],
  ])('is said in %s before the first of them', async (page, firstCommand) => {
    const text = await readFile(join(checkout, page), 'utf8');
    const before = text.slice(0, firstCommand.exec(text)?.index);
    expect(before.length).toBeLessThan(text.length);
    for (const words of ['bin/millpond COMMAND', 'npm link', 'docker exec CONTAINER millpond COMMAND']) {
      expect(before).toContain(words);
    }
  });

  test('works as said: from the checkout, and by npx and npm link, which use the declared program', async () => {
    const { version, bin } = JSON.parse(await readFile(join(checkout, 'package.json'), 'utf8')) as {
      version: string;
      bin: Record<string, string>;
    };
    expect(Object.keys(bin)).toEqual(['millpond']);
    const ended = await run(join(checkout, bin['millpond']!), ['--version'], { cwd: checkout });
    expect(ended).toMatchObject({ code: 0, stderr: '' });
    expect(ended.stdout).toContain(version);
  });
});

test('one of a thing is one, and more are several', () => {
  expect([counted(0, 'blob'), counted(1, 'blob'), counted(2, 'blob')]).toEqual(['0 blobs', '1 blob', '2 blobs']);
  expect([plural(1, 'image'), plural(2, 'image')]).toEqual(['image', 'images']);
});

test('an IPv4 client of a socket for both families has its own address', () => {
  expect(clientAddress({ remoteAddress: '::ffff:10.0.0.1' })).toBe('10.0.0.1');
  expect(clientAddress({ remoteAddress: '2001:db8::1' })).toBe('2001:db8::1');
  expect(clientAddress({ remoteAddress: '10.0.0.1' })).toBe('10.0.0.1');
});
