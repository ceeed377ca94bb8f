import { describe, expect, test } from 'vitest';
import { googleCredential } from '../../src/upstream/credentials/cloud/google.ts';
import { fileWith, later, nowMs, type Reply, seen, services } from './cloud-services.ts';

describe('a token of Google', () => {
  const token = { access_token: 'at', expires_in: 60 };
  const obtained = {
    credential: { kind: 'basic', username: 'oauth2accesstoken', password: 'at' },
    expiresAtMs: nowMs + 60_000,
  };
  const machine = (headers: object = { 'metadata-flavor': 'Google' }): Reply => ({
    headers,
    text: JSON.stringify(token),
  });
  const path = '/computeMetadata/v1/instance/service-accounts/default/token';

  test.each([
    [{}, `http://169.254.169.254${path}`],
    [{ GCE_METADATA_HOST: 'metadata.google.internal' }, `http://169.254.169.254${path}`],
    [{ GCE_METADATA_HOST: '127.0.0.1:80' }, `http://127.0.0.1${path}`],
  ])('of the machine is asked for as %j says', async (environment, url) => {
    const { asked, context } = services([machine()], { environment });
    expect(await googleCredential(undefined, context)).toEqual(obtained);
    const headers = { 'metadata-flavor': 'Google' };
    expect(asked.map(seen)).toEqual([{ method: 'GET', url, headers, body: undefined, timeoutMs: 2_000 }]);
  });

  test('of the machine is not asked for at a name, nor taken from something else', async () => {
    const { context } = services([machine()], { environment: { GCE_METADATA_HOST: 'evil.example' } });
    await expect(googleCredential(undefined, context)).rejects.toThrow(/has in GCE_METADATA_HOST no https address/);
    await expect(googleCredential(undefined, services([machine({})]).context)).rejects.toThrow(/not the metadata/);
  });

  const user = { type: 'authorized_user', client_id: 'c', client_secret: 's', refresh_token: 'r' };

  test('of a user is asked for with the refresh token, at a configured address or the usual one', async () => {
    await using key = await fileWith(JSON.stringify(user));
    await using other = await fileWith(JSON.stringify({ ...user, token_uri: 'https://t.example/x' }));
    const usual = services([token], { environment: { GOOGLE_APPLICATION_CREDENTIALS: key.file } });
    expect(await googleCredential(undefined, usual.context)).toEqual(obtained);
    const body = { grant_type: 'refresh_token', client_id: 'c', client_secret: 's', refresh_token: 'r' };
    expect(usual.asked.map(seen)).toMatchObject([{ method: 'POST', url: 'https://oauth2.googleapis.com/token', body }]);
    const configured = services([token], { environment: { GOOGLE_APPLICATION_CREDENTIALS: key.file } });
    await googleCredential(other.file, configured.context);
    expect(configured.asked[0]?.url.href).toBe('https://t.example/x');
  });

  test.each([
    ['text', 'not json', /^needs the credentials file, and .* is not JSON$/],
    ['a list', '[]', /^needs the credentials file, and .* is not JSON$/],
    ['another type', '{"type":"x"}', /a type that is not one of/],
    ['no client', JSON.stringify({ ...user, client_id: '' }), /answered without client_id/],
    ['no refresh token', JSON.stringify({ ...user, refresh_token: 1 }), /answered without refresh_token/],
  ])('is not had with a file of %s', async (_, text, message) => {
    await using key = await fileWith(text);
    await expect(googleCredential(key.file, services([token]).context)).rejects.toThrow(message);
  });

  const federated = (source: object) => ({
    type: 'external_account',
    audience: 'aud',
    subject_token_type: 'jwt',
    token_url: 'https://sts.googleapis.com/v1/token',
    credential_source: source,
  });

  test('of a workload is exchanged, and once more for that of a service account', async () => {
    await using subject = await fileWith('{"here":"subject"}\n');
    const format = { type: 'json', subject_token_field_name: 'here' };
    const url = 'https://iamcredentials.googleapis.com/v1/x:generateAccessToken';
    await using key = await fileWith(
      JSON.stringify({
        ...federated({ file: subject.file, format }),
        service_account_impersonation_url: url,
      }),
    );
    const { asked, context } = services([token, { accessToken: 'impersonated', expireTime: later }]);
    expect(await googleCredential(key.file, context)).toMatchObject({
      credential: { password: 'impersonated' },
      expiresAtMs: nowMs + 60_000,
    });
    const scope = 'https://www.googleapis.com/auth/cloud-platform';
    expect(asked.map(seen)).toMatchObject([
      {
        method: 'POST',
        url: 'https://sts.googleapis.com/v1/token',
        body: {
          grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
          audience: 'aud',
          scope,
          requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
          subject_token_type: 'jwt',
          subject_token: 'subject',
        },
      },
      {
        method: 'POST',
        url,
        headers: { authorization: 'Bearer at', 'content-type': 'application/json' },
        body: JSON.stringify({ scope: [scope] }),
      },
    ]);
    const never = services([token, { accessToken: 'x', expireTime: 'never' }]);
    await expect(googleCredential(key.file, never.context)).rejects.toThrow(/expireTime that is no time/);
  });

  test.each<[string, object, string, RegExp]>([
    ['an empty file name', { file: '' }, '', /other than a file/],
    ['no source', { url: 'https://x.example' }, '', /other than a file/],
    ['another member', { format: { type: 'json', subject_token_field_name: 'x' } }, '{"y":"z"}', /does not have it/],
    ['no JSON', { format: { type: 'json', subject_token_field_name: 'x' } }, 'text', /does not have it/],
    ['a list', { format: { type: 'json', subject_token_field_name: 'x' } }, '[]', /does not have it/],
  ])('of a workload is not had with %s', async (_, source, text, message) => {
    await using subject = await fileWith(text);
    await using key = await fileWith(
      JSON.stringify(federated({ ...(text !== '' && { file: subject.file }), ...source })),
    );
    await expect(googleCredential(key.file, services([token]).context)).rejects.toThrow(message);
  });

  test('of a workload is a text where the file has no other form', async () => {
    await using subject = await fileWith('text');
    await using key = await fileWith(JSON.stringify(federated({ file: subject.file, format: { type: 'text' } })));
    const { asked, context } = services([token]);
    expect(await googleCredential(key.file, context)).toEqual(obtained);
    expect(seen(asked[0]!).body).toMatchObject({ subject_token: 'text' });
  });
});
