import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { CredentialOptions } from '../../src/upstream/credentials/options.ts';
import { type FakeAws, startAws } from '../support/clouds/aws.ts';
import { requireSignature } from '../support/clouds/sigv4.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { accept, failureOf, never, readCredential, sourceAt, upstreamAt } from './support.ts';

const ecr: CredentialOptions = { kind: 'ecr', isPublic: false, region: 'eu-west-1', keys: undefined };

/** A machine whose role gives the keys. */
const instance = ({ ecr: api, ecrPublic, metadata }: FakeAws) => ({
  AWS_ENDPOINT_URL_ECR: api.origin,
  AWS_ENDPOINT_URL_ECR_PUBLIC: ecrPublic.origin,
  AWS_EC2_METADATA_SERVICE_ENDPOINT: metadata.origin,
});

test('the check of signatures agrees with the example that Amazon publishes', () => {
  const call = {
    method: 'GET',
    path: '/',
    query: new URLSearchParams(),
    headers: {
      host: 'example.amazonaws.com',
      'x-amz-date': '20150830T123600Z',
      authorization:
        'AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
    },
    body: '',
    form: new URLSearchParams(),
  };
  const keys = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
  const signing = { keys, region: 'us-east-1', service: 'service', nowMs: Date.UTC(2015, 7, 30, 12, 36) };
  expect(() => requireSignature(call, signing)).not.toThrow();
  expect(() => requireSignature({ ...call, body: 'x' }, signing)).toThrow('the signature is wrong');
});

test.each<[string, (aws: FakeAws, folder: string) => Promise<Record<string, string>>]>([
  ["the instance's role", (aws) => Promise.resolve(instance(aws))],
  [
    'a web identity',
    async (aws, folder) => {
      await writeFile(join(folder, 'token'), `${aws.webIdentityToken}\n`);
      return {
        AWS_WEB_IDENTITY_TOKEN_FILE: join(folder, 'token'),
        AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/mirror',
        AWS_ENDPOINT_URL_STS: aws.sts.origin,
      };
    },
  ],
  [
    "a container's credentials, as EKS Pod Identity has them",
    async (aws, folder) => {
      await writeFile(join(folder, 'token'), aws.containerToken);
      return {
        AWS_CONTAINER_CREDENTIALS_FULL_URI: `${aws.container.origin}/v1/credentials`,
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: join(folder, 'token'),
      };
    },
  ],
  [
    'keys in the environment',
    ({ keys: { user } }) =>
      Promise.resolve({ AWS_ACCESS_KEY_ID: user.accessKeyId, AWS_SECRET_ACCESS_KEY: user.secretAccessKey }),
  ],
])('a password is obtained with %s, by requests as documented', async (_, environmentOf) => {
  await using folder = await temporaryDirectory('aws');
  await using aws = await startAws();
  aws.registry.addImage('team/app', 'v1');
  const environment = { AWS_ENDPOINT_URL_ECR: aws.ecr.origin, ...(await environmentOf(aws, folder.path)) };
  using upstream = upstreamAt(aws.registry.origin, { credentials: ecr, environment });
  const pulled = await upstream.client.getManifest('team/app', 'v1', { accept, signal: never() });
  expect(pulled.bytes.length).toBeGreaterThan(0);
  expect(aws.violations).toEqual([]);
  const [status] = upstream.status().endpoints[0]?.credentials ?? [];
  expect(status).toMatchObject({ state: 'available', requests: 1 });
  expect(Math.abs(status!.expiresAtMs! - aws.nowMs - 12 * 3_600_000)).toBeLessThan(10_000);
  expect(JSON.stringify(upstream.status())).not.toContain('canary');
});

test('a configured access key is used before those of the machine', async () => {
  await using aws = await startAws();
  const { user } = aws.keys;
  const keys = { kind: 'inline', username: user.accessKeyId, password: user.secretAccessKey } as const;
  const context = { upstream: 'x', host: 'reg.example', environment: instance(aws) };
  expect(await readCredential({ ...ecr, keys }, context)).toMatchObject({ username: 'AWS' });
  expect([aws.metadata.calls.length, aws.violations]).toEqual([0, []]);
});

test('the public registry has an API of its own, in one region', async () => {
  await using aws = await startAws();
  const context = { upstream: 'x', host: 'public.ecr.aws', environment: instance(aws) };
  const options = { ...ecr, isPublic: true, region: undefined } as const;
  expect(await readCredential(options, context)).toMatchObject({ username: 'AWS' });
  expect([aws.ecrPublic.calls.length, aws.violations]).toEqual([1, []]);
});

test('the region is that of the name of the registry', async () => {
  await using aws = await startAws();
  const host = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
  const context = { upstream: 'x', host, environment: instance(aws) };
  expect(await readCredential({ ...ecr, region: undefined }, context)).toMatchObject({ username: 'AWS' });
  expect(aws.violations).toEqual([]);
  const unnamed = { ...context, host: 'reg.example' };
  expect(await failureOf(readCredential({ ...ecr, region: undefined }, unnamed))).toMatchObject({
    reason: 'no-credentials',
    message: expect.stringContaining('needs a region') as string,
  });
});

test.each([403, 400] as const)(
  'a password that expires in the middle of a pull, %d, is renewed: the pull goes on',
  async (status) => {
    await using aws = await startAws();
    const image = aws.registry.addImage('team/app', 'v1');
    using upstream = upstreamAt(aws.registry.origin, { credentials: ecr, environment: instance(aws) });
    await upstream.client.getManifest('team/app', 'v1', { accept, signal: never() });
    aws.expirePasswords(status);
    const blobs = await Promise.all(
      [image.config, ...image.layers].map(({ digest }) =>
        upstream.client.headBlob('team/app', digest, { signal: never() }),
      ),
    );
    expect(blobs.map((blob) => blob.size)).toEqual([image.config, ...image.layers].map(({ size }) => size));
    expect([aws.ecr.calls.length, aws.violations]).toEqual([2, []]);
  },
);

test('a repository that the role may not read costs no renewal a minute but one', async () => {
  await using aws = await startAws();
  aws.registry.addImage('team/app', 'v1');
  using upstream = upstreamAt(aws.registry.origin, { credentials: ecr, environment: instance(aws) });
  const pull = () => upstream.client.getManifest('team/app', 'v1', { accept, signal: never() });
  await pull();
  aws.registry.fault(undefined, { kind: 'status', status: 403 });
  for (let count = 0; count < 5; count += 1) expect(await failureOf(pull())).toMatchObject({ code: 'DENIED' });
  expect(aws.ecr.calls.length).toBe(2);
});

test('is renewed ahead of its expiry, once for all, and kept while renewal fails', async () => {
  await using aws = await startAws();
  let now = aws.nowMs;
  using source = sourceAt(ecr, { upstream: 'x', host: 'reg.example', environment: instance(aws), now: () => now });
  const get = () => source.get({ signal: never() });
  const pass = (hours: number) => {
    now += hours * 3_600_000;
    aws.nowMs = now;
  };
  const [first, second] = await Promise.all([get(), get()]);
  expect([second, aws.ecr.calls.length]).toEqual([first, 1]);
  pass(7);
  expect([await get(), aws.ecr.calls.length]).toEqual([first, 1]);
  aws.refuse('ServerException');
  pass(2);
  expect(await Promise.all([get(), get(), get()])).toEqual([first, first, first]);
  await expect.poll(() => source.status().failure).toMatch(/Amazon ECR, which answered 400 ServerException/);
  expect(aws.ecr.calls.length).toBe(2);
  aws.refuse(undefined);
  pass(1);
  expect(await get()).toEqual(first);
  await expect.poll(get).not.toEqual(first);
  expect([aws.ecr.calls.length, source.status().failure, aws.violations]).toEqual([3, undefined, []]);
  aws.refuse('ExpiredTokenException');
  pass(13);
  const error = await failureOf(get());
  expect(error).toMatchObject({
    reason: 'no-credentials',
    message: expect.stringContaining('ExpiredTokenException') as string,
  });
  expect(error.message).not.toContain('canary');
});

test.each<[string, Record<string, string>, RegExp]>([
  [
    'a metadata service that is no literal address',
    { AWS_EC2_METADATA_SERVICE_ENDPOINT: 'http://imds.example' },
    /no https address/,
  ],
  [
    'container credentials at another link-local address',
    { AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://169.254.169.254/v1' },
    /serves no credentials of containers/,
  ],
  [
    'container credentials on a plain host',
    { AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://10.0.0.7/v1' },
    /no https address/,
  ],
  ['no metadata service', { AWS_EC2_METADATA_DISABLED: 'true' }, /finds no keys/],
  ['a web identity without a role', { AWS_WEB_IDENTITY_TOKEN_FILE: '/nowhere' }, /AWS_ROLE_ARN/],
])('an environment with %s is refused', async (_, environment, message) => {
  const context = { upstream: 'x', host: 'reg.example', environment };
  expect((await failureOf(readCredential(ecr, context))).message).toMatch(message);
});
