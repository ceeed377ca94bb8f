import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Credential } from '../../src/upstream/credentials/credential.ts';
import { startRegistry } from '../support/registry.ts';
import { accept, failureOf, never, readCredential, upstreamAt } from './support.ts';

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'millpond-credentials-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

async function fromDockerConfig(config: object | string, host: string): Promise<Credential | undefined> {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'config.json');
  await writeFile(path, typeof config === 'string' ? config : JSON.stringify(config));
  return await readCredential({ kind: 'docker-config', path }, { upstream: 'x', host, environment: {} });
}

const auth = (text: string) => Buffer.from(text).toString('base64');
const user = { kind: 'basic', username: 'user', password: 'pa:ss' };

test.each<[string, string, object, object | undefined]>([
  [
    "Docker's key of the Hub",
    'registry-1.docker.io',
    { 'https://index.docker.io/v1/': { auth: auth('user:pa:ss') } },
    user,
  ],
  [
    'names of one letter',
    'ghcr.io',
    { 'ghcr.io': { auth: auth('u:p') } },
    { kind: 'basic', username: 'u', password: 'p' },
  ],
  ['zero bytes at the end', 'ghcr.io', { 'ghcr.io': { auth: auth('user:pa:ss\0\0') } }, user],
  ['a host', 'ghcr.io', { 'ghcr.io': { auth: auth('user:pa:ss') } }, user],
  ['a host with a port', 'reg.example:5000', { 'reg.example:5000': { username: 'user', password: 'pa:ss' } }, user],
  ['a key with scheme and version', 'reg.example', { 'https://Reg.example/v2/': { auth: auth('user:pa:ss') } }, user],
  [
    'an identity token',
    'acr.example',
    { 'acr.example': { auth: auth('00000000:'), identitytoken: 'id' } },
    { kind: 'refresh-token', token: 'id' },
  ],
  ['the host on another port', 'reg.example:5001', { 'reg.example:5000': { auth: auth('user:pa:ss') } }, undefined],
  [
    'a host that ends alike',
    'reg.example',
    { 'evil-reg.example': { auth: auth('a:b') }, example: { auth: auth('a:b') } },
    undefined,
  ],
  ['a host below a path', 'quay.io', { 'quay.io/team': { auth: auth('a:b') } }, undefined],
  ['an empty entry', 'ghcr.io', { 'ghcr.io': {} }, undefined],
])("Docker's config.json: %s", async (_, host, auths, expected) => {
  expect(await fromDockerConfig({ auths }, host)).toEqual(expected);
});

test('an entry in the file is used although there is a helper for other hosts', async () => {
  const config = { auths: { 'reg.example': { auth: auth('user:pa:ss') } }, credHelpers: { 'other.example': 'x' } };
  expect(await fromDockerConfig(config, 'reg.example')).toEqual(user);
});

test('a file that cannot be read or understood is an error without its text', async () => {
  const missing = readCredential(
    { kind: 'docker-config', path: '/nowhere/config.json' },
    { upstream: 'x', host: 'h', environment: {} },
  );
  expect(await failureOf(missing)).toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringContaining('upstreams.x.auth') as string,
  });
  const error = await failureOf(fromDockerConfig('{"auths": secret-password', 'h'));
  expect(`${error.message} ${String(error.cause)}`).not.toContain('secret-password');
});

test('an entry that has no colon cannot be used, and the error does not quote it', async () => {
  const error = await failureOf(
    fromDockerConfig({ auths: { 'reg.example': { auth: auth('secret') } } }, 'reg.example'),
  );
  expect(error.message).toContain('credentials that cannot be read');
  expect(`${error.message} ${String(error.cause)}`).not.toContain('secret');
});

test('a password comes from the environment', async () => {
  const options = { kind: 'environment', username: 'user', passwordVariable: 'REGISTRY_PASSWORD' } as const;
  const context = { upstream: 'x', host: 'h' };
  expect(await readCredential(options, { ...context, environment: { REGISTRY_PASSWORD: 'pa:ss' } })).toEqual(user);
  expect(await failureOf(readCredential(options, { ...context, environment: {} }))).toMatchObject({
    message: expect.stringContaining('REGISTRY_PASSWORD') as string,
  });
});

test('a password in a file can be changed while the mirror runs', async () => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry({ basic: { username: 'user', password: 'second' } });
  registry.addImage('library/tiny', 'v1');
  const passwordFile = join(folder.path, 'password');
  await writeFile(passwordFile, 'first\n');
  using upstream = upstreamAt(registry.origin, {
    credentials: { kind: 'password-file', username: 'user', passwordFile },
  });
  const pull = () => upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  expect(await failureOf(pull())).toMatchObject({ code: 'DENIED' });
  await writeFile(passwordFile, 'second\n');
  expect((await pull()).bytes.length).toBeGreaterThan(0);
});

test('an identity token is exchanged by POST, and never sent in an address', async () => {
  await using folder = await temporaryFolder();
  await using registry = await startRegistry({
    token: { credentials: { username: '', password: 'identity' }, field: 'access_token' },
  });
  registry.addImage('library/tiny', 'v1');
  const path = join(folder.path, 'config.json');
  await writeFile(path, JSON.stringify({ auths: { [registry.host]: { identitytoken: 'identity' } } }));
  using upstream = upstreamAt(registry.origin, { credentials: { kind: 'docker-config', path } });
  await upstream.client.getManifest('library/tiny', 'v1', { accept, signal: never() });
  const [request] = registry.tokenServer.requests;
  expect(request).toMatchObject({ method: 'POST' });
  expect(request?.query.size).toBe(0);
  expect(Object.fromEntries(new URLSearchParams(request?.body))).toMatchObject({
    grant_type: 'refresh_token',
    scope: 'repository:library/tiny:pull',
    service: 'registry.test',
  });
});

test('a fingerprint of an upstream is another one for other URLs, another user or password, and after a rotation', async () => {
  await using folder = await temporaryFolder();
  const passwordFile = join(folder.path, 'password');
  await writeFile(passwordFile, 'first\n');
  const fingerprintOf = async (urls: readonly string[], options: Parameters<typeof upstreamAt>[1] = {}) => {
    using upstream = upstreamAt(urls, options);
    return await upstream.fingerprint((text) => text);
  };
  const [one, other] = ['http://one.test', 'http://other.test'];
  const inline = (username: string, password: string) => ({
    credentials: { kind: 'inline' as const, username, password },
  });
  const fromFile = { credentials: { kind: 'password-file' as const, username: 'user', passwordFile } };
  const first = await fingerprintOf([one], fromFile);
  expect(await fingerprintOf([one], inline('user', 'first'))).toBe(first);
  await writeFile(passwordFile, 'second\n');
  const all = [
    first,
    await fingerprintOf([one], fromFile),
    await fingerprintOf([one]),
    await fingerprintOf([one], inline('user2', 'first')),
    await fingerprintOf([other], inline('user', 'first')),
    await fingerprintOf([one, other], inline('user', 'first')),
    await fingerprintOf([other, one], inline('user', 'first')),
  ];
  expect(new Set(all).size).toBe(all.length);
  await rm(passwordFile);
  expect(await failureOf(fingerprintOf([one], fromFile))).toMatchObject({ code: 'UNAVAILABLE' });
});
