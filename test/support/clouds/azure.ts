import { randomUUID } from 'node:crypto';
import { errorAnswer, jsonAnswer } from '../answers.ts';
import { type ScriptedRegistry, startRegistry } from '../registry.ts';
import { type FakeService, requireCall, requireMembers, startService, Violation } from './service.ts';

/** A fake of the services that Azure gives tokens with, and of a registry of Azure Container Registry. */
export interface FakeAzure extends AsyncDisposable {
  /** The metadata service of a machine. */
  readonly metadata: FakeService;
  readonly entra: FakeService;
  /** What App Service and Container Apps have in `IDENTITY_ENDPOINT`. */
  readonly appService: FakeService;
  readonly registry: ScriptedRegistry;
  readonly federatedToken: string;
  readonly appServiceHeader: string;
  /** Whether the registry takes tokens for Azure Resource Manager only, as old ones do. */
  takesArmOnly: boolean;
  /** Refresh tokens so far are refused from now on. */
  expireTokens(): void;
  readonly violations: readonly string[];
}

const [tenant, client] = ['11111111-1111-1111-1111-111111111111', '22222222-2222-2222-2222-222222222222'];
const acrResource = 'https://containerregistry.azure.net';
const armResource = 'https://management.azure.com';

export async function startAzure(): Promise<FakeAzure> {
  await using owned = new AsyncDisposableStack();
  const [federatedToken, appServiceHeader] = [`federated-${randomUUID()}`, randomUUID()];
  const entraTokens = new Map<string, string>();
  const violations: string[] = [];
  const state = { takesArmOnly: false };
  let refreshToken = '';
  let expired = '';
  let generation = 0;
  const giveEntra = (resource: string) => {
    if (resource !== acrResource && resource !== armResource) throw new Violation(`is for ${resource}`);
    const token = `canary-entra-${randomUUID()}`;
    entraTokens.set(token, resource);
    return token;
  };
  const metadata = owned.use(
    await startService(({ query, ...call }) => {
      requireCall({ query, ...call }, 'GET', { metadata: 'true' });
      if (call.path !== '/metadata/identity/oauth2/token') return { status: 404, body: '' };
      requireMembers(query, {
        'api-version': '2018-02-01',
        resource: /./,
        ...(query.has('client_id') && { client_id: client }),
      });
      const token = giveEntra(query.get('resource')!);
      return {
        status: 200,
        body: { access_token: token, expires_in: '86399', expires_on: '1', resource: 'x', token_type: 'Bearer' },
      };
    }),
  );
  const appService = owned.use(
    await startService((call) => {
      requireCall(call, 'GET', { 'x-identity-header': appServiceHeader });
      requireMembers(call.query, { 'api-version': '2019-08-01', resource: /./ });
      return {
        status: 200,
        body: { access_token: giveEntra(call.query.get('resource')!), expires_on: '1', token_type: 'Bearer' },
      };
    }),
  );
  const entra = owned.use(
    await startService((call) => {
      requireCall(call, 'POST', { 'content-type': 'application/x-www-form-urlencoded' });
      if (call.path !== `/${tenant}/oauth2/v2.0/token`) throw new Violation(`is for ${call.path}`);
      requireMembers(call.form, {
        grant_type: 'client_credentials',
        client_id: client,
        scope: /^https:\/\/[a-z.]+\/\.default$/,
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: /./,
      });
      if (call.form.get('client_assertion') !== federatedToken)
        return { status: 400, body: { error: 'invalid_client', error_description: 'AADSTS700024 canary' } };
      const token = giveEntra(call.form.get('scope')!.replace('/.default', ''));
      return { status: 200, body: { token_type: 'Bearer', expires_in: 3599, access_token: token } };
    }),
  );
  const registry: ScriptedRegistry = owned.use(
    await startRegistry({
      instead: (request) => {
        const form = new URLSearchParams(request.body);
        try {
          if (request.path === '/oauth2/exchange') {
            const own = { grant_type: 'access_token', service: registry.host, access_token: /./ };
            requireMembers(form, { ...own, ...(form.has('tenant') && { tenant: tenant }) });
            const resource = entraTokens.get(form.get('access_token')!);
            if (resource === undefined || (state.takesArmOnly && resource !== armResource))
              return errorAnswer(401, 'UNAUTHORIZED');
            refreshToken = tokenUntil(3 * 3600);
            return jsonAnswer({ refresh_token: refreshToken });
          }
          if (request.path === '/oauth2/token') {
            requireMembers(form, {
              grant_type: 'refresh_token',
              service: registry.host,
              scope: /^repository:[a-z/]+:pull$/,
              refresh_token: /./,
              client_id: 'millpond',
            });
            const shown = form.get('refresh_token');
            if (shown !== refreshToken || shown === expired) return errorAnswer(401, 'UNAUTHORIZED');
            return jsonAnswer({
              access_token: Buffer.from(`access ${generation} ${form.get('scope')}`).toString('base64'),
            });
          }
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          violations.push(`${request.path}: ${error.message}`);
          return errorAnswer(400, 'INVALID');
        }
        const [, bearer = ''] = /^Bearer (.+)$/.exec(request.headers.authorization ?? '') ?? [];
        const [, name = ''] = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(request.path) ?? [];
        if (Buffer.from(bearer, 'base64').toString() === `access ${generation} repository:${name}:pull`)
          return undefined;
        const challenge = `Bearer realm="${registry.origin}/oauth2/token",service="${registry.host}",scope="repository:${name}:pull"`;
        return errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': challenge });
      },
    }),
  );
  const held = owned.move();
  return Object.assign(state, {
    metadata,
    entra,
    appService,
    registry,
    federatedToken: federatedToken,
    appServiceHeader: appServiceHeader,
    expireTokens() {
      generation += 1;
      expired = refreshToken;
    },
    get violations() {
      return [...violations, ...[metadata, entra, appService].flatMap((service) => service.violations)];
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  });
}

/** A token that says when it expires, as those of the registry do. */
function tokenUntil(seconds: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + seconds;
  return `${part({ alg: 'RS256', typ: 'JWT' })}.${part({ exp, jti: randomUUID() })}.canary`;
}
