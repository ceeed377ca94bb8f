import { describe, expect, test } from 'vitest';
import { acrCredential } from '../../src/upstream/credentials/cloud/acr.ts';
import { expiryAt, fieldsOf, textAt } from '../../src/upstream/credentials/cloud/answers.ts';
import { expiryOf } from '../../src/upstream/credentials/cloud/jwt.ts';
import { ServiceError } from '../../src/upstream/credentials/service-client.ts';
import { nowMs, type Reply, seen, services } from './cloud-services.ts';

describe('a token of Azure', () => {
  const options = { clientId: undefined, tenantId: undefined };
  const refresh = { refresh_token: 'not.a.jwt' };
  const obtained = { credential: { kind: 'refresh-token', token: 'not.a.jwt' }, expiresAtMs: nowMs + 3_600_000 };
  const entra = { access_token: 'entra' };
  const resource = 'https%3A%2F%2Fcontainerregistry.azure.net';
  const metadata = `http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=${resource}`;

  test('of the machine is asked for and exchanged', async () => {
    const { asked, context } = services([entra, refresh], { endpoint: 'https://mine.azurecr.io:444/x' });
    expect(await acrCredential(options, context)).toEqual(obtained);
    const body = { grant_type: 'access_token', service: 'mine.azurecr.io:444', access_token: 'entra' };
    expect(asked.map(seen)).toEqual([
      { method: 'GET', url: metadata, headers: { metadata: 'true' }, body: undefined, timeoutMs: 2_000 },
      { method: 'POST', url: 'https://mine.azurecr.io:444/oauth2/exchange', body, headers: undefined },
    ]);
  });

  test.each<[object, Record<string, string>, string]>([
    [{ clientId: 'mine' }, { AZURE_CLIENT_ID: 'other' }, `${metadata}&client_id=mine`],
    [{}, { AZURE_CLIENT_ID: 'other' }, `${metadata}&client_id=other`],
    [{}, { IDENTITY_ENDPOINT: 'http://127.0.0.1/msi' }, metadata],
    [{}, { IDENTITY_HEADER: 'h' }, metadata],
    [
      {},
      { IDENTITY_ENDPOINT: 'http://127.0.0.1/msi', IDENTITY_HEADER: 'h' },
      `http://127.0.0.1/msi?api-version=2019-08-01&resource=${resource}`,
    ],
  ])('of an identity %j is asked for where %j says', async (given, environment, url) => {
    const { asked, context } = services([entra, refresh], { environment });
    expect(await acrCredential({ ...options, ...given }, context)).toEqual(obtained);
    expect(asked[0]?.url.href).toBe(url);
    const isAppService = url.includes('msi');
    expect(asked[0]?.headers).toEqual(isAppService ? { 'x-identity-header': 'h' } : { metadata: 'true' });
  });

  test.each([
    [-1, false],
    [0, false],
    [1, true],
  ])('that expires in %i seconds is one: %s', async (seconds, isOne) => {
    const payload = Buffer.from(JSON.stringify({ exp: nowMs / 1000 + seconds })).toString('base64url');
    const { context } = services([
      entra,
      { refresh_token: `e30.${payload}.x` },
      entra,
      { refresh_token: `e30.${payload}.x` },
    ]);
    const asking = acrCredential(options, context);
    if (isOne) expect(await asking).toMatchObject({ expiresAtMs: nowMs + seconds * 1000 });
    else await expect(asking).rejects.toThrow('gave a token that has expired');
  });

  test('of an application is asked for with its secret, in its tenant', async () => {
    const environment = { AZURE_CLIENT_SECRET: 's', AZURE_CLIENT_ID: 'c', AZURE_TENANT_ID: 'of the environment' };
    const { asked, context } = services([entra, refresh], { environment });
    await acrCredential({ clientId: undefined, tenantId: 't/1' }, context);
    expect(asked.map(seen)).toMatchObject([
      {
        method: 'POST',
        url: 'https://login.microsoftonline.com/t%2F1/oauth2/v2.0/token',
        body: {
          grant_type: 'client_credentials',
          client_id: 'c',
          scope: 'https://containerregistry.azure.net/.default',
          client_secret: 's',
        },
      },
      { body: { tenant: 't/1' } },
    ]);
  });

  test.each([{ AZURE_CLIENT_ID: 'c' }, { AZURE_TENANT_ID: 't' }])(
    'of an application needs more than %j',
    async (environment) => {
      const { context } = services([], { environment: { ...environment, AZURE_CLIENT_SECRET: 's' } });
      await expect(acrCredential(options, context)).rejects.toThrow(/needs a client ID and a tenant ID/);
    },
  );

  test('of a workload needs its token', async () => {
    const environment = { AZURE_FEDERATED_TOKEN_FILE: '/nothing/here' };
    await expect(acrCredential(options, services([], { environment }).context)).rejects.toThrow(
      /^needs the federated token, and/,
    );
  });

  test('is asked for Azure Resource Manager where one for registries is refused; the first refusal is reported', async () => {
    const refused = (error: string): Reply => ({ status: 400, text: JSON.stringify({ error }) });
    const second = services([entra, refused('first'), entra, refresh]);
    expect(await acrCredential(options, second.context)).toEqual(obtained);
    expect(second.asked[2]?.url.searchParams.get('resource')).toBe('https://management.azure.com');
    const none = services([entra, refused('first'), entra, refused('second')]);
    await expect(acrCredential(options, none.context)).rejects.toThrow('answered 400 first');
  });
});

describe('an answer of a service', () => {
  test.each<[number, string, string]>([
    [200, 'text', 'answered with something that is not JSON'],
    [200, '[]', 'answered with something that is not JSON'],
    [403, 'text', 'answered 403'],
    [400, '{"__type":"com.amazon#Access.Denied","error":"x"}', 'answered 400 Access.Denied'],
    [400, '{"error":"invalid_grant"}', 'answered 400 invalid_grant'],
    [400, '{"error":"some words"}', 'answered 400'],
    [400, '{"error":"x#1a"}', 'answered 400'],
    [400, '{"error":"ab!"}', 'answered 400'],
    [400, '{"error":{"code":1}}', 'answered 400'],
    [400, `{"error":"${'a'.repeat(62)}"}`, 'answered 400'],
  ])('of %i with %s is refused as "%s"', (status, text, message) => {
    expect(() => fieldsOf({ status, text })).toThrow(new ServiceError(message));
  });

  test('has texts, and lifetimes in seconds', () => {
    expect(textAt({ a: 'x' }, 'a')).toBe('x');
    for (const value of ['', 1, undefined]) expect(() => textAt({ a: value }, 'a')).toThrow('answered without a');
    const at = (value: unknown) => expiryAt({ in: value }, { key: 'in', nowMs: 1_000 });
    expect([at(2), at('3')]).toEqual([3_000, 4_000]);
    for (const value of [0, -1, '', 'x', undefined, 'Infinity']) expect(() => at(value)).toThrow('answered without in');
  });

  test('may be a token that says when it expires', () => {
    const jwt = (payload: object) => `e30.${Buffer.from(JSON.stringify(payload)).toString('base64url')}.x`;
    expect([expiryOf(jwt({ exp: 7 })), expiryOf(jwt({})), expiryOf('text')]).toEqual([7_000, undefined, undefined]);
  });
});
