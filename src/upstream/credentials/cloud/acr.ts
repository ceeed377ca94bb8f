import type { Obtained } from '../renewed.ts';
import { ServiceError, serviceUrl } from '../service-client.ts';
import { fieldsOf, textAt } from './answers.ts';
import { type CloudContext, secretText, variable } from './context.ts';
import { expiryOf } from './jwt.ts';

export interface AcrOptions {
  /** Of the identity; absent: as `AZURE_CLIENT_ID` says, or the only one of the machine. */
  readonly clientId: string | undefined;
  /** Absent: as `AZURE_TENANT_ID` says. */
  readonly tenantId: string | undefined;
}

/** The audiences of a token for a registry: registries may refuse the second one, and old ones the first. */
const resources = ['https://containerregistry.azure.net', 'https://management.azure.com'] as const;
const metadataTimeoutMs = 2_000;
/** Where a refresh token does not say when it expires; in milliseconds. */
const defaultLifetimeMs = 3_600_000;

/**
 * A refresh token of Azure Container Registry, for a token of Microsoft Entra ID (Azure/acr, "Azure Container Registry
 * and Azure Active Directory", `/oauth2/exchange`).
 * @throws ServiceError
 */
export async function acrCredential(options: AcrOptions, context: CloudContext): Promise<Obtained> {
  const { services, endpoint, now } = context;
  const askedAtMs = now();
  let failure: unknown;
  for (const resource of resources) {
    try {
      const answer = await services.ask({
        method: 'POST',
        url: new URL('/oauth2/exchange', endpoint),
        body: new URLSearchParams({
          grant_type: 'access_token',
          service: endpoint.host,
          ...tenant(options, context),
          access_token: await entraToken(resource, { options, context }),
        }),
      });
      const token = textAt(fieldsOf(answer), 'refresh_token');
      const expiresAtMs = expiryOf(token) ?? askedAtMs + defaultLifetimeMs;
      // Each request would ask for another one.
      if (expiresAtMs <= now()) throw new ServiceError('gave a token that has expired');
      return { credential: { kind: 'refresh-token', token }, expiresAtMs };
    } catch (error) {
      failure ??= error;
    }
  }
  throw failure;
}

function tenant({ tenantId }: AcrOptions, { environment }: CloudContext): Record<string, string> {
  const id = tenantId ?? variable(environment, 'AZURE_TENANT_ID');
  return id === undefined ? {} : { tenant: id };
}

interface EntraWish {
  readonly options: AcrOptions;
  readonly context: CloudContext;
}

/** From workload identity or a client's secret where the environment has one, else from the managed identity. */
async function entraToken(resource: string, wish: EntraWish): Promise<string> {
  const { environment } = wish.context;
  const file = variable(environment, 'AZURE_FEDERATED_TOKEN_FILE');
  if (file !== undefined) {
    return await clientToken(resource, wish, {
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: await secretText(file, 'the federated token'),
    });
  }
  const secret = variable(environment, 'AZURE_CLIENT_SECRET');
  if (secret !== undefined) return await clientToken(resource, wish, { client_secret: secret });
  return await managedIdentityToken(resource, wish);
}

/** "Microsoft identity platform and the OAuth 2.0 client credentials flow". */
async function clientToken(resource: string, { options, context }: EntraWish, proof: object): Promise<string> {
  const { services, environment } = context;
  const clientId = options.clientId ?? variable(environment, 'AZURE_CLIENT_ID');
  const { tenant: tenantId } = tenant(options, context);
  if (clientId === undefined || tenantId === undefined) throw new ServiceError('needs a client ID and a tenant ID');
  const authority = variable(environment, 'AZURE_AUTHORITY_HOST') ?? 'https://login.microsoftonline.com/';
  const url = new URL(
    `/${encodeURIComponent(tenantId)}/oauth2/v2.0/token`,
    serviceUrl(authority, 'AZURE_AUTHORITY_HOST'),
  );
  const form = { grant_type: 'client_credentials', client_id: clientId, scope: `${resource}/.default`, ...proof };
  return textAt(fieldsOf(await services.ask({ method: 'POST', url, body: new URLSearchParams(form) })), 'access_token');
}

/**
 * "How to use managed identities for Azure resources on an Azure VM to acquire an access token"; in App Service and
 * Container Apps, the address that `IDENTITY_ENDPOINT` has.
 */
async function managedIdentityToken(resource: string, { options, context }: EntraWish): Promise<string> {
  const { services, environment } = context;
  const endpoint = variable(environment, 'IDENTITY_ENDPOINT');
  const header = variable(environment, 'IDENTITY_HEADER');
  const isAppService = endpoint !== undefined && header !== undefined;
  const base = variable(environment, 'AZURE_POD_IDENTITY_AUTHORITY_HOST') ?? 'http://169.254.169.254';
  const url = isAppService
    ? serviceUrl(endpoint, 'IDENTITY_ENDPOINT')
    : new URL('/metadata/identity/oauth2/token', serviceUrl(base, 'AZURE_POD_IDENTITY_AUTHORITY_HOST'));
  url.searchParams.set('api-version', isAppService ? '2019-08-01' : '2018-02-01');
  url.searchParams.set('resource', resource);
  const clientId = options.clientId ?? variable(environment, 'AZURE_CLIENT_ID');
  if (clientId !== undefined) url.searchParams.set('client_id', clientId);
  const headers: Record<string, string> = isAppService ? { 'x-identity-header': header } : { metadata: 'true' };
  return textAt(
    fieldsOf(await services.ask({ method: 'GET', url, headers, timeoutMs: metadataTimeoutMs })),
    'access_token',
  );
}
