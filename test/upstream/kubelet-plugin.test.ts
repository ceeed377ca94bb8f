import { expect, test } from 'vitest';
import { writeProgram } from '../support/programs.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { failureOf, never, readCredential, sourceAt } from './support.ts';

const apiVersion = 'credentialprovider.kubelet.k8s.io/v1';
const answer = { apiVersion, kind: 'CredentialProviderResponse', cacheKeyType: 'Registry' };

/** A credential provider that checks what it is asked, and answers with what a module's expression gives. */
async function pluginAt(expression: string) {
  const folder = await temporaryDirectory('plugin');
  const program = await writeProgram(
    folder.path,
    'test-credential-provider',
    `import { appendFileSync, readFileSync } from 'node:fs';
const request = JSON.parse(readFileSync(0, 'utf8'));
const keys = Object.keys(request).toSorted().join();
if (keys !== 'apiVersion,image,kind' || request.kind !== 'CredentialProviderRequest') process.exit(9);
if (request.apiVersion !== ${JSON.stringify(apiVersion)}) process.exit(8);
appendFileSync('${folder.path}/runs', '.');
const runs = readFileSync('${folder.path}/runs', 'utf8').length;
const args = process.argv.slice(2);
console.error('canary');
console.log(JSON.stringify(${expression}));`,
  );
  const context = { upstream: 'x', host: 'reg.example:5000', environment: process.env };
  return { ...folder, options: { kind: 'kubelet', program, args: ['--flag'] } as const, context };
}

const user = (name: string) => ({ username: name, password: 'secret' });

test('is asked as the kubelet asks, and the longest pattern for the host wins', async () => {
  const auth = {
    '*.example:5000': user('wide'),
    'reg.example:5000': user('exact'),
    'r*g.example:5000/team': user('path'),
    'reg.example': user('port'),
    'example:5000': user('labels'),
  };
  await using plugin = await pluginAt(`{ ...${JSON.stringify({ ...answer, auth })} }`);
  expect(await readCredential(plugin.options, plugin.context)).toEqual({ kind: 'basic', ...user('exact') });
  const other = { ...plugin.context, host: 'other.example:5000' };
  expect(await readCredential(plugin.options, other)).toMatchObject(user('wide'));
  expect(await readCredential(plugin.options, { ...plugin.context, host: 'else.test' })).toBeUndefined();
});

test('gets its arguments and says for how long its answer is good', async () => {
  const text = JSON.stringify({ ...answer, cacheDuration: '1h30m' });
  await using plugin = await pluginAt(
    `{ ...${text}, auth: { 'reg.example:5000': { username: args[0], password: 's' + runs } } }`,
  );
  let now = 0;
  using source = sourceAt(plugin.options, { ...plugin.context, now: () => now });
  const get = () => source.get({ signal: never() });
  expect(await get()).toMatchObject({ username: '--flag', password: 's1' });
  now += 89 * 60_000;
  expect(await get()).toMatchObject({ password: 's1' });
  now += 2 * 60_000;
  await get();
  await expect.poll(get).toMatchObject({ password: 's2' });
});

test('an answer that is good for no time is asked for each time', async () => {
  const text = JSON.stringify({ ...answer, cacheDuration: '0s' });
  await using plugin = await pluginAt(
    `{ ...${text}, auth: { 'reg.example:5000': { username: 'u', password: 's' + runs } } }`,
  );
  using source = sourceAt(plugin.options, plugin.context);
  expect(await source.get({ signal: never() })).toMatchObject({ password: 's1' });
  expect(await source.get({ signal: never() })).toMatchObject({ password: 's2' });
});

test.each<[string, object]>([
  ['another version', { ...answer, apiVersion: 'credentialprovider.kubelet.k8s.io/v1alpha1' }],
  ['another kind', { ...answer, kind: 'canary' }],
  ['no key type', { ...answer, cacheKeyType: 'canary' }],
  ['a duration that is none', { ...answer, cacheDuration: 'canary' }],
])('an answer of %s is refused, and nothing of it is in the error', async (_, given) => {
  await using plugin = await pluginAt(JSON.stringify(given));
  const error = await failureOf(readCredential(plugin.options, plugin.context));
  expect(error.message).toContain('did not answer with a CredentialProviderResponse');
  expect(error.message).not.toContain('canary');
});
