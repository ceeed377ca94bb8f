import { randomUUID } from 'node:crypto';
import { errorAnswer, textAnswer } from '../answers.ts';
import { type ScriptedRegistry, startRegistry } from '../registry.ts';
import { type FakeService, requireCall, requireMembers, type ServiceCall, startService, Violation } from './service.ts';
import { requireSignature, type SigningKeys } from './sigv4.ts';

/** A fake of the services that Amazon gives credentials with, and of a registry of Amazon ECR. */
export interface FakeAws extends AsyncDisposable {
  readonly sts: FakeService;
  /** The metadata service of the instance, version 2. */
  readonly metadata: FakeService;
  /** What serves the credentials of a container. */
  readonly container: FakeService;
  readonly ecr: FakeService;
  readonly ecrPublic: FakeService;
  readonly registry: ScriptedRegistry;
  /** The keys that each of them gives; those of the access key of a user have no session token. */
  readonly keys: Readonly<Record<'user' | 'webIdentity' | 'container' | 'instance', SigningKeys>>;
  /** The web identity token that STS accepts, and the token of the container's endpoint. */
  readonly webIdentityToken: string;
  readonly containerToken: string;
  /** Passwords that have been given out so far are refused from now on, with this status. */
  expirePasswords(status: 400 | 403): void;
  /** The API refuses from now on, with this code; `undefined`: it does not. */
  refuse(code: string | undefined): void;
  /** Moves the clock of the services. */
  nowMs: number;
  readonly violations: readonly string[];
}

const region = 'eu-west-1';
const passwordHours = 12;

export async function startAws(): Promise<FakeAws> {
  await using owned = new AsyncDisposableStack();
  const [webIdentityToken, containerToken, imdsToken] = ['web', 'container', 'imds'].map(
    (one) => `${one}-${randomUUID()}`,
  );
  const keys = {
    user: { accessKeyId: 'AKIAUSER', secretAccessKey: `canary/${randomUUID()}` },
    webIdentity: temporary('ASIAWEB'),
    container: temporary('ASIACONTAINER'),
    instance: temporary('ASIAINSTANCE'),
  };
  let expiredStatus: number | undefined;
  let refusal: string | undefined;
  let password = '';
  const state = { nowMs: Date.now() };
  const expiration = () => new Date(state.nowMs + 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z');
  const answerKeys = ({ accessKeyId, secretAccessKey, sessionToken }: SigningKeys, more: object = {}) => ({
    status: 200,
    body: {
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      Token: sessionToken,
      Expiration: expiration(),
      ...more,
    },
  });
  const sts = owned.use(
    await startService((call) => {
      requireCall(call, 'POST', { 'content-type': 'application/x-www-form-urlencoded' });
      if (call.headers.authorization !== undefined) throw new Violation('is signed');
      requireMembers(call.form, {
        Action: 'AssumeRoleWithWebIdentity',
        Version: '2011-06-15',
        RoleArn: 'arn:aws:iam::123456789012:role/mirror',
        RoleSessionName: /^[\w+=,.@-]{2,64}$/,
        WebIdentityToken: /./,
      });
      if (call.form.get('WebIdentityToken') !== webIdentityToken) {
        return { status: 400, body: '<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>' };
      }
      const { accessKeyId, secretAccessKey, sessionToken } = keys.webIdentity;
      return {
        status: 200,
        headers: { 'content-type': 'text/xml' },
        body: `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>${accessKeyId}</AccessKeyId><SecretAccessKey>${secretAccessKey}</SecretAccessKey><SessionToken>${sessionToken}</SessionToken><Expiration>${expiration()}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
      };
    }),
  );
  const container = owned.use(
    await startService((call) => {
      requireCall(call, 'GET');
      if (call.path !== '/v1/credentials') throw new Violation(`is for ${call.path}`);
      // The content of the file as it is, no Bearer.
      if (call.headers.authorization !== containerToken) return { status: 401, body: '' };
      return answerKeys(keys.container, { AccountId: '123456789012' });
    }),
  );
  const metadata = owned.use(
    await startService((call) => {
      if (call.path === '/latest/api/token') {
        requireCall(call, 'PUT');
        const ttl = Number(call.headers['x-aws-ec2-metadata-token-ttl-seconds']);
        if (!(ttl >= 1 && ttl <= 21_600)) throw new Violation(`asks for a token for ${ttl} s`);
        return { status: 200, body: imdsToken! };
      }
      requireCall(call, 'GET');
      if (call.headers['x-aws-ec2-metadata-token'] !== imdsToken) return { status: 401, body: '' };
      const folder = '/latest/meta-data/iam/security-credentials/';
      if (call.path === folder) return { status: 200, body: 'mirror-role' };
      if (call.path !== `${folder}mirror-role`) return { status: 404, body: '' };
      return answerKeys(keys.instance, { Code: 'Success', Type: 'AWS-HMAC', LastUpdated: expiration() });
    }),
  );
  const givePassword = (call: ServiceCall, service: 'ecr' | 'ecr-public') => {
    const target = service === 'ecr' ? 'AmazonEC2ContainerRegistry_V20150921' : 'SpencerFrontendService';
    requireCall(call, 'POST', {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `${target}.GetAuthorizationToken`,
    });
    if (call.path !== '/' || call.body !== '{}') throw new Violation(`sends ${call.body} to ${call.path}`);
    const [, id] = /Credential=([^/]+)\//.exec(call.headers.authorization ?? '') ?? [];
    const known = Object.values(keys).find(({ accessKeyId }) => accessKeyId === id);
    if (known === undefined) throw new Violation(`is signed by ${id}`);
    const signing = { keys: known, service, nowMs: state.nowMs };
    requireSignature(call, { ...signing, region: service === 'ecr' ? region : 'us-east-1' });
    if (refusal !== undefined)
      return { status: 400, body: { __type: `com.amazon.coral.service#${refusal}`, message: 'canary' } };
    password = `canary-${randomUUID()}`;
    const data = {
      authorizationToken: Buffer.from(`AWS:${password}`).toString('base64'),
      expiresAt: state.nowMs / 1000 + passwordHours * 3600,
    };
    const host = 'https://123456789012.dkr.ecr.eu-west-1.amazonaws.com';
    return {
      status: 200,
      body: { authorizationData: service === 'ecr' ? [{ ...data, proxyEndpoint: host }] : data },
    };
  };
  const ecr = owned.use(await startService((call) => givePassword(call, 'ecr')));
  const ecrPublic = owned.use(await startService((call) => givePassword(call, 'ecr-public')));
  let validFrom = '';
  const registry = owned.use(
    await startRegistry({
      instead: ({ headers }) => {
        const { authorization } = headers;
        if (authorization === undefined) {
          return errorAnswer(401, 'UNAUTHORIZED', {
            'WWW-Authenticate': 'Basic realm="https://ecr.test/",service="ecr.amazonaws.com"',
          });
        }
        if (authorization === validFrom) {
          return textAnswer(
            expiredStatus ?? 403,
            'Your authorization token has expired. Reauthenticate and try again.',
          );
        }
        const right = `Basic ${Buffer.from(`AWS:${password}`).toString('base64')}`;
        return authorization === right ? undefined : errorAnswer(401, 'UNAUTHORIZED');
      },
    }),
  );
  const held = owned.move();
  return Object.assign(state, {
    sts,
    metadata,
    container,
    ecr,
    ecrPublic,
    registry,
    keys,
    webIdentityToken: webIdentityToken!,
    containerToken: containerToken!,
    expirePasswords(status: 400 | 403) {
      expiredStatus = status;
      validFrom = `Basic ${Buffer.from(`AWS:${password}`).toString('base64')}`;
    },
    refuse(code: string | undefined) {
      refusal = code;
    },
    get violations() {
      return [sts, metadata, container, ecr, ecrPublic].flatMap(({ violations }) => violations);
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  });
}

function temporary(accessKeyId: string): SigningKeys {
  return { accessKeyId, secretAccessKey: `canary/${randomUUID()}+`, sessionToken: `canary-session-${randomUUID()}==` };
}
