import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { type JWTPayload, jwtVerify } from 'jose';
import { errorAnswer, jsonAnswer } from '../answers.ts';
import { type ScriptedRegistry, startRegistry } from '../registry.ts';
import { type FakeService, requireCall, requireMembers, type ServiceCall, startService, Violation } from './service.ts';

/** A fake of the services that Google gives access tokens with, and of a registry of Artifact Registry. */
export interface FakeGoogle extends AsyncDisposable {
  readonly metadata: FakeService;
  readonly oauth: FakeService;
  readonly sts: FakeService;
  readonly iam: FakeService;
  readonly registry: ScriptedRegistry;
  /** The file of a service account's key, as the console writes it. */
  readonly serviceAccountKey: object;
  /** The file of workload identity federation. @param tokenFile the token of the workload; `as`: an account to act as */
  externalAccount(tokenFile: string, options?: { readonly impersonate?: boolean; readonly format?: object }): object;
  readonly workloadToken: string;
  /** Assertions that the token service has taken. */
  readonly assertions: readonly JWTPayload[];
  /** Access tokens so far, and the registry's tokens that they have opened, are refused from now on. */
  expireTokens(): void;
  readonly violations: readonly string[];
}

const audience = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/ci';
const scope = 'https://www.googleapis.com/auth/cloud-platform';
const account = 'mirror@project.iam.gserviceaccount.com';

export async function startGoogle(): Promise<FakeGoogle> {
  await using owned = new AsyncDisposableStack();
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const workloadToken = `workload-${randomUUID()}`;
  const federated = `federated-${randomUUID()}`;
  const assertions: JWTPayload[] = [];
  const unverified: Promise<void>[] = [];
  let accessToken = '';
  const give = () => {
    accessToken = `canary-ya29.${randomUUID()}`;
    return accessToken;
  };
  const metadata = owned.use(
    await startService((call) => {
      requireCall(call, 'GET', { 'metadata-flavor': 'Google' });
      if (call.path !== '/computeMetadata/v1/instance/service-accounts/default/token') return { status: 404, body: '' };
      const headers = { 'metadata-flavor': 'Google', 'content-type': 'application/json' };
      return { status: 200, headers, body: { access_token: give(), expires_in: 3599, token_type: 'Bearer' } };
    }),
  );
  const takeAssertion = (call: ServiceCall) => {
    requireCall(call, 'POST', { 'content-type': 'application/x-www-form-urlencoded' });
    requireMembers(call.form, {
      grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      assertion: /^[\w-]+\.[\w-]+\.[\w-]+$/,
    });
    const options = {
      algorithms: ['RS256'],
      issuer: account,
      audience: `${oauth.origin}/token`,
      maxTokenAge: '1h',
      clockTolerance: 60,
    };
    const check = jwtVerify(call.form.get('assertion')!, publicKey, options);
    const verified = check.then(({ payload }) => void assertions.push(payload));
    // What it throws is thrown when the fake ends.
    verified.catch(() => undefined);
    unverified.push(verified);
    return { status: 200, body: { access_token: give(), expires_in: 3599, token_type: 'Bearer' } };
  };
  const oauth: FakeService = owned.use(await startService(takeAssertion));
  const sts = owned.use(
    await startService((call) => {
      requireCall(call, 'POST', { 'content-type': 'application/x-www-form-urlencoded' });
      requireMembers(call.form, {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        audience,
        scope,
        requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
        subject_token: /./,
      });
      if (call.form.get('subject_token') !== workloadToken) return { status: 400, body: { error: 'invalid_grant' } };
      const issued = { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token', token_type: 'Bearer' };
      accessToken = federated;
      return { status: 200, body: { access_token: federated, expires_in: 3600, ...issued } };
    }),
  );
  const iam = owned.use(
    await startService((call) => {
      requireCall(call, 'POST', { 'content-type': 'application/json', authorization: `Bearer ${federated}` });
      if (call.path !== `/v1/projects/-/serviceAccounts/${account}:generateAccessToken`)
        throw new Violation('is elsewhere');
      if (call.body !== JSON.stringify({ scope: [scope] })) throw new Violation(`sends ${call.body}`);
      return {
        status: 200,
        body: { accessToken: give(), expireTime: new Date(Date.now() + 3_600_000).toISOString() },
      };
    }),
  );
  let expired = '';
  let ended: string | undefined;
  const registry: ScriptedRegistry = owned.use(
    await startRegistry({
      instead: ({ path, headers, query }) => {
        const right = `Basic ${Buffer.from(`oauth2accesstoken:${accessToken}`).toString('base64')}`;
        if (path === '/v2/token') {
          const isRight = headers.authorization === right && headers.authorization !== expired;
          if (!isRight || query.get('service') !== 'gar.test') return errorAnswer(403, 'UNAUTHENTICATED');
          const token = Buffer.from(`${accessToken} ${query.get('scope')}`).toString('base64');
          return jsonAnswer({ token, expires_in: 300 });
        }
        const [, bearer = ''] = /^Bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
        const [, name = ''] = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(path) ?? [];
        const opened = Buffer.from(bearer, 'base64').toString();
        const isAllowed = opened.endsWith(` repository:${name}:pull`) && !opened.startsWith(`${ended} `);
        if (isAllowed) return undefined;
        const realm = `${registry.origin}/v2/token`;
        return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': `Bearer realm="${realm}",service="gar.test"` });
      },
    }),
  );
  const held = owned.move();
  return {
    metadata,
    oauth,
    sts,
    iam,
    registry,
    serviceAccountKey: {
      type: 'service_account',
      project_id: 'project',
      private_key_id: 'key-1',
      private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
      client_email: account,
      token_uri: `${oauth.origin}/token`,
    },
    externalAccount: (
      file: string,
      { impersonate = false, format }: { impersonate?: boolean; format?: object } = {},
    ) => ({
      type: 'external_account',
      audience,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${sts.origin}/v1/token`,
      credential_source: { file, format },
      ...(impersonate && {
        service_account_impersonation_url: `${iam.origin}/v1/projects/-/serviceAccounts/${account}:generateAccessToken`,
      }),
    }),
    workloadToken,
    assertions,
    expireTokens() {
      ended = accessToken;
      expired = `Basic ${Buffer.from(`oauth2accesstoken:${accessToken}`).toString('base64')}`;
    },
    get violations() {
      return [metadata, oauth, sts, iam].flatMap(({ violations }) => violations);
    },
    async [Symbol.asyncDispose]() {
      await held.disposeAsync();
      // An assertion that is not as documented fails the test.
      await Promise.all(unverified);
    },
  };
}
