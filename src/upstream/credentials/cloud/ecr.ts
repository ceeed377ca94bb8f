import { AwsV4Signer } from 'aws4fetch';
import { isRecord } from '../answers.ts';
import type { Obtained } from '../renewed.ts';
import { type ServiceAnswer, ServiceError, serviceUrl } from '../service-client.ts';
import { fieldsOf, textAt } from './answers.ts';
import { type AwsKeys, awsKeys, domainOf } from './aws-keys.ts';
import { type CloudContext, variable } from './context.ts';

export interface EcrOptions {
  /** Amazon ECR Public, whose API is in one region only. */
  readonly isPublic: boolean;
  /** Absent: as the registry's name or the environment says. */
  readonly region: string | undefined;
  /** Reads the configured keys; absent: those of the machine or pod. */
  readonly keys?: () => Promise<AwsKeys>;
}

/** A difference between the clocks that Amazon no longer accepts is minutes; in milliseconds. */
const clockSkewMs = 4 * 60_000;

/**
 * A password of Amazon ECR: GetAuthorizationToken (Amazon ECR API Reference; Amazon ECR Public API Reference).
 * @throws ServiceError
 */
export async function ecrCredential(options: EcrOptions, context: CloudContext): Promise<Obtained> {
  const { services, now } = context;
  const { isPublic, keys } = options;
  const host = isPublic ? undefined : privateHost(context.endpoint.hostname);
  const region = isPublic ? 'us-east-1' : (options.region ?? host?.region ?? regionOf(context));
  const url = apiUrl({ isPublic, region, isFips: host?.isFips === true }, context);
  const signer = new AwsV4Signer({
    method: 'POST',
    url: url.href,
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': isPublic
        ? 'SpencerFrontendService.GetAuthorizationToken'
        : 'AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken',
    },
    body: '{}',
    datetime: new Date(now()).toISOString().replaceAll(/[:-]|\.\d{3}/g, ''),
    service: isPublic ? 'ecr-public' : 'ecr',
    region,
    ...(await (keys ?? (() => awsKeys(region, context)))()),
  });
  const { headers } = await signer.sign();
  const answer = await services.ask({ method: 'POST', url, headers: Object.fromEntries(headers), body: '{}' });
  const data = dataOf(answer, context);
  const [user, ...password] = Buffer.from(textAt(data, 'authorizationToken'), 'base64').toString('utf8').split(':');
  if (user !== 'AWS' || password.join(':') === '') throw new ServiceError('answered with a token that is no password');
  const expiresAtMs = Number(data['expiresAt']) * 1000;
  if (!(expiresAtMs > now())) throw new ServiceError('answered with a token that has expired');
  return { credential: { kind: 'basic', username: user, password: password.join(':') }, expiresAtMs };
}

/** `123456789012.dkr.ecr.eu-west-1.amazonaws.com`, and its spelling for dual-stack networks. */
function privateHost(hostname: string): { readonly region: string; readonly isFips: boolean } | undefined {
  const [, , fips, region] =
    /^(\d{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9-]{1,40})\.(?:amazonaws\.com(?:\.cn)?|on\.aws|on\.amazonwebservices\.com\.cn)$/.exec(
      hostname,
    ) ?? [];
  return region === undefined ? undefined : { region, isFips: fips !== undefined };
}

function regionOf({ environment }: CloudContext): string {
  const region = variable(environment, 'AWS_REGION') ?? variable(environment, 'AWS_DEFAULT_REGION');
  if (region !== undefined) return region;
  throw new ServiceError('needs a region: the name of the registry has none, and AWS_REGION is not set');
}

function apiUrl(
  { isPublic, region, isFips }: { readonly isPublic: boolean; readonly region: string; readonly isFips: boolean },
  { environment }: CloudContext,
): URL {
  const name = isPublic ? 'AWS_ENDPOINT_URL_ECR_PUBLIC' : 'AWS_ENDPOINT_URL_ECR';
  const configured = variable(environment, name);
  if (configured !== undefined) return new URL('/', serviceUrl(configured, name));
  const service = isPublic ? 'api.ecr-public' : isFips ? 'ecr-fips' : 'api.ecr';
  return new URL(`https://${service}.${region}.${domainOf(region)}/`);
}

function dataOf(answer: ServiceAnswer, { now }: CloudContext): Readonly<Record<string, unknown>> {
  let fields: Readonly<Record<string, unknown>>;
  try {
    fields = fieldsOf(answer);
  } catch (error) {
    const differenceMs = Date.parse(answer.headers.date ?? '') - now();
    if (!(error instanceof ServiceError) || !(Math.abs(differenceMs) > clockSkewMs)) throw error;
    throw new ServiceError(`${error.message}, and its clock differs from ours by ${Math.round(differenceMs / 1000)} s`);
  }
  // A list for private registries, an object for the public one.
  const data: unknown = Array.isArray(fields['authorizationData'])
    ? fields['authorizationData'][0]
    : fields['authorizationData'];
  if (!isRecord(data)) throw new ServiceError('answered without authorizationData');
  return data;
}
