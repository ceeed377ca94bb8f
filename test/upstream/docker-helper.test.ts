import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { CredentialOptions } from '../../src/upstream/credentials/options.ts';
import { writeProgram } from '../support/programs.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { accept, failureOf, never, readCredential, sourceAt, upstreamAt } from './support.ts';

const helper = { kind: 'helper', helper: 'test' } as const;

/** A folder with `docker-credential-test`, which writes what the body says. */
async function helperFolder(body: string) {
  const folder = await temporaryDirectory('helper');
  await writeProgram(folder.path, 'docker-credential-test', body);
  const environment = { PATH: `${folder.path}:${process.env['PATH']}`, REGISTRY_PASSWORD: 'canary' };
  return { ...folder, environment, context: { upstream: 'x', host: 'reg.example:5000', environment } };
}

/** A helper that answers as docker-credential-helpers do. */
const answering = (answer: object) => `
import { readFileSync } from 'node:fs';
const [verb] = process.argv.slice(2);
const url = readFileSync(0, 'utf8');
if (verb !== 'get') process.exit(2);
console.error('canary on standard error');
console.log(JSON.stringify({ ServerURL: url, ...${JSON.stringify(answer)} }));
`;

test('is asked for the host, and gives a user name and a secret', async () => {
  await using folder = await helperFolder(`
import { readFileSync } from 'node:fs';
console.log(JSON.stringify({ Username: 'user ' + process.argv.slice(2), Secret: readFileSync(0, 'utf8') }));`);
  expect(await readCredential(helper, folder.context)).toEqual({
    kind: 'basic',
    username: 'user get',
    password: 'reg.example:5000',
  });
  expect(await readCredential(helper, { ...folder.context, host: 'registry-1.docker.io' })).toMatchObject({
    password: 'https://index.docker.io/v1/',
  });
});

test('gives an identity token under the name <token>', async () => {
  await using folder = await helperFolder(answering({ Username: '<token>', Secret: 'identity' }));
  expect(await readCredential(helper, folder.context)).toEqual({ kind: 'refresh-token', token: 'identity' });
});

test('has nothing for the host: requests are anonymous', async () => {
  await using folder = await helperFolder(`
console.log('credentials not found in native keychain');
process.exitCode = 1;`);
  expect(await readCredential(helper, folder.context)).toBeUndefined();
});

test.each<[string, string, RegExp]>([
  ['fails', `console.log('the canary is locked'); process.exitCode = 1;`, /failed with exit code 1/],
  ['writes no JSON', `console.log('canary');`, /wrote no user name and secret/],
  ['writes no secret', `console.log('{"Username":"canary"}');`, /wrote no user name and secret/],
  [
    'writes without end',
    `process.stdout.on('error', () => process.exit()); for (;;) await new Promise((done) => process.stdout.write('canary'.repeat(10_000), done));`,
    /wrote more than 64 KiB/,
  ],
])('that %s is an error without anything it wrote', async (_, body, message) => {
  await using folder = await helperFolder(body);
  const error = await failureOf(readCredential(helper, folder.context));
  expect(error).toMatchObject({ reason: 'no-credentials', message: expect.stringMatching(message) as string });
  expect(`${error.message} ${String(error.cause)}`).not.toContain('canary');
});

test('that is not installed is named', async () => {
  const context = { upstream: 'x', host: 'h', environment: { PATH: '/nowhere' } };
  expect(await failureOf(readCredential(helper, context))).toMatchObject({
    message: 'upstream x has its credentials in docker-credential-test, which is not installed',
  });
});

test('gets no shell, and none of the variables that may hold other secrets', async () => {
  await using folder = await helperFolder(`
const { AWS_PROFILE = '', REGISTRY_PASSWORD = '' } = process.env;
console.log(JSON.stringify({ Username: AWS_PROFILE, Secret: 'secret' + REGISTRY_PASSWORD }));`);
  const environment = { ...folder.environment, AWS_PROFILE: 'production' };
  expect(await readCredential(helper, { ...folder.context, environment })).toMatchObject({
    username: 'production',
    password: 'secret',
  });
  const path = join(folder.path, 'config.json');
  await writeFile(path, JSON.stringify({ credsStore: 'test; touch /tmp/canary' }));
  expect(await failureOf(readCredential({ kind: 'docker-config', path }, folder.context))).toMatchObject({
    message: expect.stringContaining('a credential helper whose name is not one') as string,
  });
});

test.each<[string, object, string]>([
  [
    'credHelpers',
    { auths: { 'reg.example:5000': {} }, credHelpers: { 'reg.example:5000': 'test' } },
    'reg.example:5000',
  ],
  ['credsStore', { auths: { 'https://reg.example:5000/v2/': {} }, credsStore: 'test' }, 'https://reg.example:5000/v2/'],
  ['credsStore without an entry', { credsStore: 'test' }, 'reg.example:5000'],
])("is the one that %s of Docker's config.json names", async (_, config, asked) => {
  await using folder = await helperFolder(`
import { readFileSync } from 'node:fs';
console.log(JSON.stringify({ Username: 'user', Secret: readFileSync(0, 'utf8') }));`);
  const path = join(folder.path, 'config.json');
  await writeFile(path, JSON.stringify(config));
  expect(await readCredential({ kind: 'docker-config', path }, folder.context)).toMatchObject({ password: asked });
});

/** A helper that counts its runs in a file, and fails while another file is there. */
const counting = (folder: string) => `
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
appendFileSync('${folder}/runs', '.');
const run = readFileSync('${folder}/runs', 'utf8').length;
if (existsSync('${folder}/broken')) process.exit(3);
console.log(JSON.stringify({ Username: 'user', Secret: 'secret ' + run }));`;

test('is asked once for all, again after five minutes in the background, and its last answer is kept while it fails', async () => {
  await using folder = await helperFolder('');
  await writeProgram(folder.path, 'docker-credential-test', counting(folder.path));
  const runs = async () => (await readFile(join(folder.path, 'runs'), 'utf8')).length;
  let now = 0;
  using source = sourceAt(helper, { ...folder.context, now: () => now });
  const get = async () => await source.get({ signal: never() });
  const first = { kind: 'basic', username: 'user', password: 'secret 1' };
  expect(await Promise.all([get(), get(), get()])).toEqual([first, first, first]);
  now += 4 * 60_000;
  expect(await get()).toEqual(first);
  expect(await runs()).toBe(1);
  await writeFile(join(folder.path, 'broken'), '');
  now += 2 * 60_000;
  expect(await get()).toEqual(first);
  await expect.poll(() => source.status().failure).toMatch(/exit code 3/);
  now += 50 * 60_000;
  expect(await get()).toEqual(first);
  now += 5 * 60_000;
  expect(await failureOf(get())).toMatchObject({ reason: 'no-credentials' });
});

test('whose secret the registry refuses is asked once more in the middle of a pull', async () => {
  await using folder = await helperFolder('');
  await writeProgram(folder.path, 'docker-credential-test', counting(folder.path));
  await using registry = await startRegistry({ basic: { username: 'user', password: 'secret 2' } });
  registry.addImage('library/tiny', 'v1');
  const { environment } = folder;
  const pull = async (credentials: CredentialOptions) => {
    using upstream = upstreamAt(registry.origin, { credentials, environment });
    return await upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  };
  expect((await pull(helper)).bytes.length).toBeGreaterThan(0);
  expect(await failureOf(pull(helper))).toMatchObject({ code: 'DENIED' });
});
