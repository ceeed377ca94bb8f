import { isRecord, parseSecretJson } from '../answers.ts';
import type { Obtained } from '../renewed.ts';
import { type ServiceAnswer, ServiceError, serviceUrl } from '../service-client.ts';
import { expiryAt, fieldsOf, textAt } from './answers.ts';
import { type CloudContext, secretText, variable } from './context.ts';
import { signAssertion } from './jwt.ts';

type Fields = Readonly<Record<string, unknown>>;

const scope = 'https://www.googleapis.com/auth/cloud-platform';
const metadataTimeoutMs = 2_000;
const metadataName = 'metadata.google.internal';

/**
 * A password of Google Artifact Registry: an OAuth 2 access token, from the credentials file ("Application Default
 * Credentials"), or else from the metadata service.
 * @param credentialsFile absent: as `GOOGLE_APPLICATION_CREDENTIALS` says
 * @throws ServiceError
 */
export async function googleCredential(credentialsFile: string | undefined, context: CloudContext): Promise<Obtained> {
  const file = credentialsFile ?? variable(context.environment, 'GOOGLE_APPLICATION_CREDENTIALS');
  const askedAtMs = context.now();
  const fields = file === undefined ? await metadataToken(context) : await tokenOfFile(file, context);
  const { token, expiresAtMs } = 'accessToken' in fields ? impersonated(fields) : oauthToken(fields, askedAtMs);
  return { credential: { kind: 'basic', username: 'oauth2accesstoken', password: token }, expiresAtMs };
}

function oauthToken(fields: Fields, nowMs: number): { readonly token: string; readonly expiresAtMs: number } {
  return { token: textAt(fields, 'access_token'), expiresAtMs: expiryAt(fields, { key: 'expires_in', nowMs }) };
}

function impersonated(fields: Fields): { readonly token: string; readonly expiresAtMs: number } {
  const expiresAtMs = Date.parse(textAt(fields, 'expireTime'));
  if (Number.isNaN(expiresAtMs)) throw new ServiceError('answered with an expireTime that is no time');
  return { token: textAt(fields, 'accessToken'), expiresAtMs };
}

/** "About VM metadata", "Access tokens" (Compute Engine). The address is the same in Kubernetes Engine. */
async function metadataToken({ services, environment }: CloudContext): Promise<Fields> {
  const named = variable(environment, 'GCE_METADATA_HOST') ?? metadataName;
  // The literal address, so that no name server decides where the token comes from.
  const host = named === metadataName ? '169.254.169.254' : named;
  const url = serviceUrl(
    `http://${host}/computeMetadata/v1/instance/service-accounts/default/token`,
    'GCE_METADATA_HOST',
  );
  const headers = { 'metadata-flavor': 'Google' };
  const answer = await services.ask({ method: 'GET', url, headers, timeoutMs: metadataTimeoutMs });
  // Something else may answer at this address on other networks.
  if (answer.headers['metadata-flavor'] !== 'Google') {
    throw new ServiceError('is not the metadata service: its answer lacks Metadata-Flavor');
  }
  return fieldsOf(answer);
}

async function tokenOfFile(file: string, context: CloudContext): Promise<Fields> {
  const text = await secretText(file, 'the credentials file');
  let key: unknown;
  try {
    key = parseSecretJson(text);
  } catch {
    throw new ServiceError(`needs the credentials file, and ${file} is not JSON`);
  }
  if (!isRecord(key)) throw new ServiceError(`needs the credentials file, and ${file} is not JSON`);
  switch (key['type']) {
    case 'service_account':
      return await serviceAccountToken(key, context);
    case 'external_account':
      return await federatedToken(key, context);
    case 'authorized_user':
      return await userToken(key, context);
    default:
      throw new ServiceError(
        `has in ${file} a type that is not one of service_account, external_account, authorized_user`,
      );
  }
}

/** "Using OAuth 2.0 for Server to Server Applications"; RFC 7523, 2.1. */
async function serviceAccountToken(key: Fields, context: CloudContext): Promise<Fields> {
  const tokenUri = serviceUrl(textOr(key, 'token_uri', 'https://oauth2.googleapis.com/token'), 'token_uri');
  const issuedAt = Math.floor(context.now() / 1000);
  const assertion = await signAssertion(textAt(key, 'private_key'), {
    issuer: textAt(key, 'client_email'),
    audience: tokenUri.href,
    scope,
    keyId: textOr(key, 'private_key_id', ''),
    issuedAt,
    expiresAt: issuedAt + 3600,
  });
  if (assertion === undefined) throw new ServiceError('has in private_key no RSA key');
  return fieldsOf(
    await post(tokenUri, { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion }, context),
  );
}

/** A refresh token of `gcloud auth application-default login`; RFC 6749, 6. */
async function userToken(key: Fields, context: CloudContext): Promise<Fields> {
  const url = serviceUrl(textOr(key, 'token_uri', 'https://oauth2.googleapis.com/token'), 'token_uri');
  const [clientId, clientSecret] = [textAt(key, 'client_id'), textAt(key, 'client_secret')];
  const form = { grant_type: 'refresh_token', client_id: clientId, client_secret: clientSecret };
  return fieldsOf(await post(url, { ...form, refresh_token: textAt(key, 'refresh_token') }, context));
}

/**
 * Workload identity federation: the identity's token is exchanged (RFC 8693), and where the file says so, the result for
 * a token of a service account (IAM Service Account Credentials API, generateAccessToken).
 */
async function federatedToken(key: Fields, context: CloudContext): Promise<Fields> {
  const tokenUrl = googleUrl(textAt(key, 'token_url'), 'token_url');
  const exchanged = await post(
    tokenUrl,
    {
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      audience: textAt(key, 'audience'),
      scope,
      requested_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      subject_token_type: textAt(key, 'subject_token_type'),
      subject_token: await subjectToken(key),
    },
    context,
  );
  const fields = fieldsOf(exchanged);
  const impersonation = key['service_account_impersonation_url'];
  if (typeof impersonation !== 'string') return fields;
  const answer = await context.services.ask({
    method: 'POST',
    url: googleUrl(impersonation, 'service_account_impersonation_url'),
    headers: {
      authorization: `Bearer ${textAt(fields, 'access_token')}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ scope: [scope] }),
  });
  return fieldsOf(answer);
}

/** Such a file can name addresses and programs: only a file is read, as Kubernetes and CI systems provide it. */
async function subjectToken(key: Fields): Promise<string> {
  const source = isRecord(key['credential_source']) ? key['credential_source'] : {};
  const { file, format } = source;
  if (typeof file !== 'string' || file === '') {
    throw new ServiceError('has a credential_source other than a file, which is not supported');
  }
  const text = await secretText(file, 'the token of the workload');
  if (!isRecord(format) || format['type'] !== 'json') return text;
  try {
    const fields = parseSecretJson(text);
    return textAt(isRecord(fields) ? fields : {}, textAt(format, 'subject_token_field_name'));
  } catch {
    throw new ServiceError(`needs the token of the workload, and ${file} does not have it`);
  }
}

function googleUrl(text: string, name: string): URL {
  const url = serviceUrl(text, name);
  if (url.protocol === 'http:' || url.hostname.endsWith('.googleapis.com')) return url;
  throw new ServiceError(`has in ${name} an address that is not Google's`);
}

async function post(url: URL, form: Record<string, string>, { services }: CloudContext): Promise<ServiceAnswer> {
  return await services.ask({ method: 'POST', url, body: new URLSearchParams(form) });
}

function textOr(fields: Fields, key: string, otherwise: string): string {
  const value = fields[key];
  return typeof value === 'string' && value !== '' ? value : otherwise;
}
