import { describe, expect, test } from 'vitest';
import { awsKeys, domainOf } from '../../src/upstream/credentials/cloud/aws-keys.ts';
import { ecrCredential } from '../../src/upstream/credentials/cloud/ecr.ts';
import { fileWith, later, nowMs, type Reply, seen, services } from './cloud-services.ts';

describe('the keys of Amazon', () => {
  const keys = { AccessKeyId: 'id', SecretAccessKey: 'secret', Token: 'session', Expiration: later };
  const read = { accessKeyId: 'id', secretAccessKey: 'secret', sessionToken: 'session' };

  test('are those of the environment where it has both, with or without a session', async () => {
    const both = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
    expect(await awsKeys('eu', services([], { environment: both }).context)).toEqual({
      accessKeyId: 'a',
      secretAccessKey: 'b',
    });
    const session = services([], { environment: { ...both, AWS_SESSION_TOKEN: 'c' } });
    expect(await awsKeys('eu', session.context)).toEqual({ accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c' });
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) {
      const environment = { ...both, [name]: '', AWS_EC2_METADATA_DISABLED: 'TRUE' };
      await expect(awsKeys('eu', services([], { environment }).context)).rejects.toThrow(
        /metadata service is disabled/,
      );
    }
  });

  const xml =
    '<AccessKeyId>id</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>';

  test.each([
    ['eu-west-1', 'https://sts.eu-west-1.amazonaws.com/'],
    ['cn-north-1', 'https://sts.cn-north-1.amazonaws.com.cn/'],
  ])('of a web identity are asked for in the region %s', async (region, url) => {
    await using token = await fileWith(' token\n');
    const environment = { AWS_WEB_IDENTITY_TOKEN_FILE: token.file, AWS_ROLE_ARN: 'arn:role' };
    const { asked, context } = services([xml], { environment });
    expect(await awsKeys(region, context)).toEqual(read);
    expect(asked.map(seen)).toEqual([
      {
        method: 'POST',
        url,
        headers: { accept: 'application/xml' },
        body: {
          Action: 'AssumeRoleWithWebIdentity',
          Version: '2011-06-15',
          RoleArn: 'arn:role',
          RoleSessionName: 'millpond',
          WebIdentityToken: 'token',
        },
        timeoutMs: undefined,
      },
    ]);
  });

  test('of a web identity are asked for at a configured address under a configured name', async () => {
    await using token = await fileWith('token');
    const environment = {
      AWS_WEB_IDENTITY_TOKEN_FILE: token.file,
      AWS_ROLE_ARN: 'arn:role',
      AWS_ROLE_SESSION_NAME: 'mine',
      AWS_ENDPOINT_URL_STS: 'https://sts.example/path',
    };
    const { asked, context } = services([xml], { environment });
    await awsKeys('eu', context);
    expect(asked.map(seen)).toMatchObject([{ url: 'https://sts.example/', body: { RoleSessionName: 'mine' } }]);
  });

  test.each<[string, Reply, RegExp]>([
    ['a refusal with a code', { status: 403, text: '<Code>AccessDenied</Code>' }, /with 403 AccessDenied$/],
    ['a refusal without one', { status: 500, text: '<Code>not a code</Code>' }, /with 500$/],
    ['no element', xml.replaceAll('SessionToken', 'Other'), /without SessionToken$/],
    ['an element without an end', xml.replace('</SecretAccessKey>', ''), /without SecretAccessKey$/],
    ['an empty element', xml.replace('>id<', '><'), /without AccessKeyId$/],
  ])('of a web identity are not had from %s', async (_, reply, message) => {
    await using token = await fileWith('token');
    const environment = { AWS_WEB_IDENTITY_TOKEN_FILE: token.file, AWS_ROLE_ARN: 'arn:role' };
    await expect(awsKeys('eu', services([reply], { environment }).context)).rejects.toThrow(message);
  });

  test('of a web identity need a role, and a token in its file', async () => {
    await using empty = await fileWith(' \n');
    const AWS_ROLE_ARN = 'arn:role';
    const of = async (environment: object) => await awsKeys('eu', services([xml], { environment }).context);
    await expect(of({ AWS_WEB_IDENTITY_TOKEN_FILE: empty.file })).rejects.toThrow(/needs AWS_ROLE_ARN/);
    await expect(of({ AWS_WEB_IDENTITY_TOKEN_FILE: empty.file, AWS_ROLE_ARN })).rejects.toThrow(/is empty/);
    await expect(of({ AWS_WEB_IDENTITY_TOKEN_FILE: '/nothing/here', AWS_ROLE_ARN })).rejects.toThrow(
      'needs the web identity token, and /nothing/here cannot be read (ENOENT)',
    );
  });

  test.each([
    [{ AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/role' }, 'http://169.254.170.2/role'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://169.254.170.2/a' }, 'http://169.254.170.2/a'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://169.254.170.23/a' }, 'http://169.254.170.23/a'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://[fd00:ec2::23]/a' }, 'http://[fd00:ec2::23]/a'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://127.0.0.1:8080/a' }, 'http://127.0.0.1:8080/a'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'http://[::1]/a' }, 'http://[::1]/a'],
    [{ AWS_CONTAINER_CREDENTIALS_FULL_URI: 'https://keys.example/a' }, 'https://keys.example/a'],
  ])('of a container are asked for as %j says', async (environment, url) => {
    const { asked, context } = services([keys], { environment });
    expect(await awsKeys('eu', context)).toEqual(read);
    expect(asked.map(seen)).toEqual([{ method: 'GET', url, headers: {}, body: undefined, timeoutMs: 1_000 }]);
  });

  test.each(['http://169.254.169.254/a', 'http://[fd00:ec2::254]/a', 'http://[fe80::1]/a', 'http://keys.example/a'])(
    'of a container are not asked for at %s',
    async (url) => {
      const environment = { AWS_CONTAINER_CREDENTIALS_FULL_URI: url };
      const { asked, context } = services([keys], { environment });
      await expect(awsKeys('eu', context)).rejects.toThrow(/has in AWS_CONTAINER_CREDENTIALS_FULL_URI/);
      expect(asked).toEqual([]);
    },
  );

  test('of a container are asked for with its token, that of the file first', async () => {
    await using token = await fileWith('of the file\n');
    const base = {
      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/role',
      AWS_CONTAINER_AUTHORIZATION_TOKEN: 'of the environment',
    };
    const first = services([keys], { environment: base });
    await awsKeys('eu', first.context);
    expect(first.asked[0]?.headers).toEqual({ authorization: 'of the environment' });
    const environment = { ...base, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: token.file };
    const second = services([keys], { environment });
    await awsKeys('eu', second.context);
    expect(second.asked[0]?.headers).toEqual({ authorization: 'of the file' });
    const missing = { ...base, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: '/nothing/here' };
    await expect(awsKeys('eu', services([keys], { environment: missing }).context)).rejects.toThrow(
      /needs the container's authorization token/,
    );
  });

  test('of an instance are those of the first role of its metadata service', async () => {
    const { asked, context } = services(['token', 'my-role\nother', keys], {
      environment: { AWS_EC2_METADATA_DISABLED: 'false' },
    });
    expect(await awsKeys('eu', context)).toEqual(read);
    const headers = { 'x-aws-ec2-metadata-token': 'token' };
    const base = 'http://169.254.169.254/latest';
    const common = { body: undefined, timeoutMs: 1_000 };
    expect(asked.map(seen)).toEqual([
      {
        method: 'PUT',
        url: `${base}/api/token`,
        headers: { 'x-aws-ec2-metadata-token-ttl-seconds': '60' },
        ...common,
      },
      { method: 'GET', url: `${base}/meta-data/iam/security-credentials/`, headers, ...common },
      { method: 'GET', url: `${base}/meta-data/iam/security-credentials/my-role`, headers, ...common },
    ]);
  });

  test.each<[string, readonly Reply[], RegExp]>([
    ['no role', ['token', ' \n'], /has no role/],
    ['something that is no name', ['token', '<html>'], /has no role/],
    ['a name that is too long', ['token', 'r'.repeat(129)], /has no role/],
    ['a refusal of the token', [{ status: 403, text: 'no' }], /^answered 403 at the metadata service for api\/token$/],
    [
      'a refusal of the role',
      ['token', 'role', { status: 404, text: 'no' }],
      /^answered 404 at the metadata service for meta-data\/iam\/security-credentials\/role$/,
    ],
    ['keys that expire now', ['t', 'r', { ...keys, Expiration: new Date(nowMs).toISOString() }], /have expired/],
    ['keys that expire at no time', ['t', 'r', { ...keys, Expiration: 'soon' }], /have expired/],
    ['keys without a secret', ['t', 'r', { ...keys, SecretAccessKey: '' }], /answered without SecretAccessKey/],
    ['keys without an id', ['t', 'r', { ...keys, AccessKeyId: 7 }], /answered without AccessKeyId/],
    ['keys without a session', ['t', 'r', { ...keys, Token: undefined }], /answered without Token/],
  ])('of an instance are not had from %s', async (_, replies, message) => {
    await expect(awsKeys('eu', services(replies).context)).rejects.toThrow(message);
  });

  test.each(['r'.repeat(128), 'a+=,.@-_9'])('of an instance may be those of the role %s', async (role) => {
    expect(await awsKeys('eu', services(['token', role, keys]).context)).toEqual(read);
  });

  test('are asked for below the domain of the region', () => {
    expect([domainOf('cn-north-1'), domainOf('eu-cn-1')]).toEqual(['amazonaws.com.cn', 'amazonaws.com']);
  });
});

describe('a password of Amazon', () => {
  const key = () => Promise.resolve({ accessKeyId: 'id', secretAccessKey: 'secret' });
  const token = (text: string) => Buffer.from(text).toString('base64');
  const data = { authorizationToken: token('AWS:pass:word'), expiresAt: nowMs / 1000 + 60 };
  const ecr = { isPublic: false, region: undefined, keys: key };

  test.each([
    ['https://123456789012.dkr.ecr.eu-west-1.amazonaws.com', 'https://api.ecr.eu-west-1.amazonaws.com/'],
    ['https://123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn', 'https://api.ecr.cn-north-1.amazonaws.com.cn/'],
    ['https://123456789012.dkr.ecr-fips.us-east-1.amazonaws.com', 'https://ecr-fips.us-east-1.amazonaws.com/'],
    ['https://123456789012.dkr-ecr.us-east-2.on.aws', 'https://api.ecr.us-east-2.amazonaws.com/'],
  ])('for %s is asked for at %s', async (endpoint, url) => {
    const { asked, context } = services([{ authorizationData: [data] }], { endpoint });
    expect(await ecrCredential(ecr, context)).toEqual({
      credential: { kind: 'basic', username: 'AWS', password: 'pass:word' },
      expiresAtMs: nowMs + 60_000,
    });
    expect(asked.map(seen)).toMatchObject([{ method: 'POST', url, body: '{}' }]);
    expect(asked[0]?.headers).toMatchObject({
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': 'AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken',
      'x-amz-date': '20260101T000000Z',
    });
    expect(asked[0]?.headers?.['authorization']).toContain('/ecr/aws4_request');
  });

  test.each<[string, object, Record<string, string>, string]>([
    ['the configured region', { region: 'sa-east-1' }, { AWS_REGION: 'x' }, 'https://api.ecr.sa-east-1.amazonaws.com/'],
    ['AWS_REGION', {}, { AWS_REGION: 'a-1', AWS_DEFAULT_REGION: 'b-1' }, 'https://api.ecr.a-1.amazonaws.com/'],
    ['AWS_DEFAULT_REGION', {}, { AWS_DEFAULT_REGION: 'b-1' }, 'https://api.ecr.b-1.amazonaws.com/'],
    ['an address', {}, { AWS_REGION: 'a-1', AWS_ENDPOINT_URL_ECR: 'https://e.example/p' }, 'https://e.example/'],
    ['the public registry', { isPublic: true }, {}, 'https://api.ecr-public.us-east-1.amazonaws.com/'],
    [
      'an address for the public registry',
      { isPublic: true },
      { AWS_ENDPOINT_URL_ECR_PUBLIC: 'https://p.example', AWS_ENDPOINT_URL_ECR: 'https://e.example' },
      'https://p.example/',
    ],
  ])('is asked for as %s says', async (_, options, environment, url) => {
    const { asked, context } = services([{ authorizationData: data }], { environment });
    await ecrCredential({ ...ecr, ...options }, context);
    expect(asked[0]?.url.href).toBe(url);
    expect(asked[0]?.headers?.['x-amz-target']?.split('.')[0]).toBe(
      'isPublic' in options ? 'SpencerFrontendService' : 'AmazonEC2ContainerRegistry_V20150921',
    );
    expect(asked[0]?.headers?.['authorization']).toContain('isPublic' in options ? '/ecr-public/' : '/ecr/');
  });

  test('is asked for with the keys of the machine where none are configured', async () => {
    const environment = { AWS_REGION: 'a-1', AWS_ACCESS_KEY_ID: 'machine', AWS_SECRET_ACCESS_KEY: 's' };
    const { asked, context } = services([{ authorizationData: data }], { environment });
    await ecrCredential({ isPublic: false, region: undefined }, context);
    expect(asked[0]?.headers?.['authorization']).toContain('Credential=machine/20260101/a-1/ecr/');
  });

  test.each<[string, Reply, RegExp]>([
    ['another user', { authorizationData: [{ ...data, authorizationToken: token('X:y') }] }, /no password/],
    ['no password', { authorizationData: [{ ...data, authorizationToken: token('AWS:') }] }, /no password/],
    ['a password that expires now', { authorizationData: [{ ...data, expiresAt: nowMs / 1000 }] }, /has expired/],
    ['no time', { authorizationData: [{ ...data, expiresAt: 'soon' }] }, /has expired/],
    ['nothing', {}, /without authorizationData/],
    ['an empty list', { authorizationData: [] }, /without authorizationData/],
    [
      'a refusal by a clock that is 5 minutes ahead',
      { status: 400, headers: { date: new Date(nowMs + 300_000).toUTCString() }, text: '{}' },
      /^answered 400, and its clock differs from ours by 300 s$/,
    ],
    [
      'a refusal by a clock that is 5 minutes behind',
      { status: 400, headers: { date: new Date(nowMs - 300_000).toUTCString() }, text: '{}' },
      /differs from ours by -300 s$/,
    ],
    [
      'a refusal by a clock that is 4 minutes ahead',
      { status: 400, headers: { date: new Date(nowMs + 240_000).toUTCString() }, text: '{}' },
      /^answered 400$/,
    ],
    ['a refusal without a date', { status: 400, text: '{}' }, /^answered 400$/],
  ])('is not had from %s', async (_, reply, message) => {
    const { context } = services([reply], { environment: { AWS_REGION: 'a-1' } });
    await expect(ecrCredential(ecr, context)).rejects.toThrow(message);
  });

  test('needs a region', async () => {
    await expect(ecrCredential(ecr, services([]).context)).rejects.toThrow(/needs a region/);
    for (const host of [
      '12.dkr.ecr.eu-west-1.amazonaws.com',
      'x123456789012.dkr.ecr.eu-west-1.amazonaws.com',
      '123456789012.dkr.ecr.eu-west-1.amazonaws.com.example',
      '123456789012.dkrxecr.eu-west-1.amazonaws.com',
      '123456789012.dkr.ecr.eu_west.amazonaws.com',
      '123456789012.dkr.ecr.eu-west-1.amazonaws.org',
    ]) {
      const { context } = services([], { endpoint: `https://${host}` });
      await expect(ecrCredential(ecr, context)).rejects.toThrow(/needs a region/);
    }
  });
});
