import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FakeGoogle, startGoogle } from '../support/clouds/google.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { accept, failureOf, never, readCredential, upstreamAt } from './support.ts';

const google = { kind: 'google', credentialsFile: undefined } as const;
const metadataOf = ({ metadata }: FakeGoogle) => ({ GCE_METADATA_HOST: new URL(metadata.origin).host });

/** Writes a credentials file, with the token of the workload beside it. */
async function credentialsFolder(fake: FakeGoogle, fileOf: (tokenFile: string) => object) {
  const folder = await temporaryDirectory('google');
  const [token, file] = ['token', 'key.json'].map((name) => join(folder.path, name)) as [string, string];
  await writeFile(token, `${fake.workloadToken}\n`);
  await writeFile(`${token}.json`, JSON.stringify({ jwt: fake.workloadToken }));
  await writeFile(file, JSON.stringify(fileOf(token)));
  return { ...folder, file };
}

test.each<[string, (fake: FakeGoogle, tokenFile: string) => object]>([
  ["a service account's key", (fake) => fake.serviceAccountKey],
  ['workload identity federation', (fake, token) => fake.externalAccount(token)],
  [
    'a token in JSON',
    (fake, token) =>
      fake.externalAccount(`${token}.json`, { format: { type: 'json', subject_token_field_name: 'jwt' } }),
  ],
  ['federation and a service account to act as', (fake, token) => fake.externalAccount(token, { impersonate: true })],
])('an access token is obtained with %s, by requests as documented', async (_, fileOf) => {
  await using fake = await startGoogle();
  await using folder = await credentialsFolder(fake, (token) => fileOf(fake, token));
  fake.registry.addImage('project/repo/app', 'v1');
  using upstream = upstreamAt(fake.registry.origin, { credentials: { ...google, credentialsFile: folder.file } });
  const pulled = await upstream.client.getManifest('project/repo/app', 'v1', { accept, signal: never() });
  expect(pulled.bytes.length).toBeGreaterThan(0);
  expect(fake.violations).toEqual([]);
  expect(JSON.stringify(upstream.status())).not.toContain('canary');
});

test('an assertion is signed by the key, for one hour and one audience', async () => {
  await using fake = await startGoogle();
  await using folder = await credentialsFolder(fake, () => fake.serviceAccountKey);
  const context = {
    upstream: 'x',
    host: 'europe-docker.pkg.dev',
    environment: { GOOGLE_APPLICATION_CREDENTIALS: folder.file },
  };
  expect(await readCredential(google, context)).toMatchObject({ username: 'oauth2accesstoken' });
  await expect.poll(() => fake.assertions.length).toBe(1);
  const { iat, exp, scope } = fake.assertions[0]!;
  expect([exp! - iat!, scope]).toEqual([3600, 'https://www.googleapis.com/auth/cloud-platform']);
});

test('the metadata service gives the token of the machine, and its answer has to be its own', async () => {
  await using fake = await startGoogle();
  const context = { upstream: 'x', host: 'gcr.io', environment: metadataOf(fake) };
  expect(await readCredential(google, context)).toMatchObject({ username: 'oauth2accesstoken' });
  expect(fake.violations).toEqual([]);
  const other = { ...context, environment: { GCE_METADATA_HOST: new URL(fake.registry.origin).host } };
  expect((await failureOf(readCredential(google, other))).message).toContain('is not the metadata service');
});

test('a token that expires between two repositories is renewed: the pull goes on', async () => {
  await using fake = await startGoogle();
  for (const name of ['one', 'two']) fake.registry.addImage(`project/repo/${name}`, 'v1');
  using upstream = upstreamAt(fake.registry.origin, { credentials: google, environment: metadataOf(fake) });
  const pull = (name: string) => upstream.client.getManifest(`project/repo/${name}`, 'v1', { accept, signal: never() });
  await pull('one');
  fake.expireTokens();
  expect((await pull('two')).bytes.length).toBeGreaterThan(0);
  expect([fake.metadata.calls.length, fake.violations]).toEqual([2, []]);
});

test.each<[string, (fake: FakeGoogle, tokenFile: string) => object, RegExp]>([
  [
    'a program as source',
    (fake, token) => ({
      ...fake.externalAccount(token),
      credential_source: { executable: { command: 'touch /tmp/canary' } },
    }),
    /other than a file/,
  ],
  [
    'an address that is not Google',
    (fake, token) => ({ ...fake.externalAccount(token), token_url: 'https://evil.example/v1/token' }),
    /not Google's/,
  ],
  [
    'a plain http address',
    (fake) => ({ ...fake.serviceAccountKey, token_uri: 'http://evil.example/token' }),
    /no https address/,
  ],
  ['no key', (fake) => ({ ...fake.serviceAccountKey, private_key: 'canary' }), /no RSA key/],
  ['another type', () => ({ type: 'canary' }), /a type that is not one of/],
  ['a token that is refused', (fake, token) => fake.externalAccount(`${token}.json`), /answered 400 invalid_grant/],
])('a credentials file with %s is refused, and nothing of it is in the error', async (_, fileOf, message) => {
  await using fake = await startGoogle();
  await using folder = await credentialsFolder(fake, (token) => fileOf(fake, token));
  const context = { upstream: 'x', host: 'gcr.io', environment: {} };
  const error = await failureOf(readCredential({ ...google, credentialsFile: folder.file }, context));
  expect(error).toMatchObject({ reason: 'no-credentials', message: expect.stringMatching(message) as string });
  expect(`${error.message} ${String(error.cause)}`).not.toContain('canary');
});
