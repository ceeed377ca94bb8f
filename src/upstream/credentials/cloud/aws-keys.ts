import { isMachineLocal, ServiceError, serviceUrl } from '../service-client.ts';
import { fieldsOf, textAt } from './answers.ts';
import { type CloudContext, secretText, variable } from './context.ts';

/** Keys that requests to Amazon are signed with. */
export interface AwsKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** The metadata service drops requests of containers behind more hops than it allows. */
const metadataTimeoutMs = 1_000;

/**
 * The keys of this machine or pod, from the first of these that the environment names: keys in variables, a web identity
 * (IAM roles for service accounts), a container's credentials (EKS Pod Identity, ECS), the instance's role (IMDSv2).
 * @throws ServiceError
 */
export async function awsKeys(region: string, context: CloudContext): Promise<AwsKeys> {
  const { environment } = context;
  const accessKeyId = variable(environment, 'AWS_ACCESS_KEY_ID');
  const secretAccessKey = variable(environment, 'AWS_SECRET_ACCESS_KEY');
  if (accessKeyId !== undefined && secretAccessKey !== undefined) {
    const sessionToken = variable(environment, 'AWS_SESSION_TOKEN');
    return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
  }
  const tokenFile = variable(environment, 'AWS_WEB_IDENTITY_TOKEN_FILE');
  if (tokenFile !== undefined) return await webIdentityKeys(tokenFile, { region, context });
  const containerUrl = containerCredentialsUrl(context);
  if (containerUrl !== undefined) return await containerKeys(containerUrl, context);
  return await instanceKeys(context);
}

/** AssumeRoleWithWebIdentity (AWS Security Token Service API Reference); the request is not signed. */
async function webIdentityKeys(
  tokenFile: string,
  { region, context }: { readonly region: string; readonly context: CloudContext },
): Promise<AwsKeys> {
  const { services, environment } = context;
  const role = variable(environment, 'AWS_ROLE_ARN');
  if (role === undefined) throw new ServiceError('needs AWS_ROLE_ARN beside AWS_WEB_IDENTITY_TOKEN_FILE');
  const endpoint = variable(environment, 'AWS_ENDPOINT_URL_STS') ?? `https://sts.${region}.${domainOf(region)}`;
  const { status, text } = await services.ask({
    method: 'POST',
    url: new URL('/', serviceUrl(endpoint, 'AWS_ENDPOINT_URL_STS')),
    headers: { accept: 'application/xml' },
    body: new URLSearchParams({
      Action: 'AssumeRoleWithWebIdentity',
      Version: '2011-06-15',
      RoleArn: role,
      RoleSessionName: variable(environment, 'AWS_ROLE_SESSION_NAME') ?? 'millpond',
      // It is rotated: read each time.
      WebIdentityToken: await secretText(tokenFile, 'the web identity token'),
    }),
  });
  if (status !== 200) {
    const code = /<Code>([A-Za-z]{1,60})<\/Code>/.exec(text)?.[1];
    throw new ServiceError(`refused the web identity with ${status}${code === undefined ? '' : ` ${code}`}`);
  }
  const element = (name: string): string => {
    const [, from = ''] = text.split(`<${name}>`, 2);
    const [found = '', ...rest] = from.split(`</${name}>`, 2);
    if (found === '' || rest.length === 0) throw new ServiceError(`answered the web identity without ${name}`);
    return found;
  };
  const [accessKeyId, secretAccessKey] = [element('AccessKeyId'), element('SecretAccessKey')];
  return { accessKeyId, secretAccessKey, sessionToken: element('SessionToken') };
}

/** Amazon's addresses for the credentials of containers: of ECS, and of the EKS Pod Identity Agent. */
const containerHosts: ReadonlySet<string> = new Set(['169.254.170.2', '169.254.170.23', '[fd00:ec2::23]']);

function containerCredentialsUrl({ environment }: CloudContext): URL | undefined {
  const relative = variable(environment, 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI');
  if (relative !== undefined) return new URL(relative, 'http://169.254.170.2');
  const full = variable(environment, 'AWS_CONTAINER_CREDENTIALS_FULL_URI');
  if (full === undefined) return undefined;
  const url = serviceUrl(full, 'AWS_CONTAINER_CREDENTIALS_FULL_URI');
  const isLoopback = isMachineLocal(url) && !/^(?:169\.254\.|\[f)/.test(url.hostname);
  if (url.protocol === 'https:' || isLoopback || containerHosts.has(url.hostname)) return url;
  throw new ServiceError(
    'has in AWS_CONTAINER_CREDENTIALS_FULL_URI an address that serves no credentials of containers',
  );
}

/** "Container credential provider" (AWS SDKs and Tools Reference Guide). */
async function containerKeys(url: URL, context: CloudContext): Promise<AwsKeys> {
  const { services, environment } = context;
  const file = variable(environment, 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE');
  const token =
    file === undefined
      ? variable(environment, 'AWS_CONTAINER_AUTHORIZATION_TOKEN')
      : await secretText(file, "the container's authorization token");
  const headers: Record<string, string> = token === undefined ? {} : { authorization: token };
  return keysOf(fieldsOf(await services.ask({ method: 'GET', url, headers, timeoutMs: metadataTimeoutMs })), context);
}

/** "Use IMDS to access instance metadata", version 2, and "Retrieve security credentials" (Amazon EC2 User Guide). */
async function instanceKeys(context: CloudContext): Promise<AwsKeys> {
  const { services, environment } = context;
  if (variable(environment, 'AWS_EC2_METADATA_DISABLED')?.toLowerCase() === 'true') {
    throw new ServiceError('finds no keys in the environment, and the metadata service is disabled');
  }
  const base = variable(environment, 'AWS_EC2_METADATA_SERVICE_ENDPOINT') ?? 'http://169.254.169.254';
  const ask = async (method: 'GET' | 'PUT', path: string, headers: Record<string, string>): Promise<string> => {
    const url = new URL(`/latest/${path}`, serviceUrl(base, 'AWS_EC2_METADATA_SERVICE_ENDPOINT'));
    const { status, text } = await services.ask({ method, url, headers, timeoutMs: metadataTimeoutMs });
    if (status === 200) return text;
    throw new ServiceError(`answered ${status} at the metadata service for ${path.split('/').slice(0, 4).join('/')}`);
  };
  const token = await ask('PUT', 'api/token', { 'x-aws-ec2-metadata-token-ttl-seconds': '60' });
  const headers = { 'x-aws-ec2-metadata-token': token };
  const folder = 'meta-data/iam/security-credentials/';
  const [role = ''] = (await ask('GET', folder, headers)).trim().split('\n');
  if (!/^[\w+=,.@-]{1,128}$/.test(role)) throw new ServiceError('has no role for this instance');
  return keysOf(fieldsOf({ status: 200, text: await ask('GET', `${folder}${role}`, headers) }), context);
}

function keysOf(fields: Readonly<Record<string, unknown>>, { now }: CloudContext): AwsKeys {
  // A role that was taken away leaves keys that have expired; what is no time is none to rely on either.
  if (!(Date.parse(textAt(fields, 'Expiration')) > now())) throw new ServiceError('gives keys that have expired');
  return {
    accessKeyId: textAt(fields, 'AccessKeyId'),
    secretAccessKey: textAt(fields, 'SecretAccessKey'),
    sessionToken: textAt(fields, 'Token'),
  };
}

/** The domain of the services of a region. */
export function domainOf(region: string): string {
  return region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
}
