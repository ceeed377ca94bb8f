import { afterEach, expect, test, vi } from 'vitest';
import { startAws } from '../support/clouds/aws.ts';
import { startAzure } from '../support/clouds/azure.ts';
import { startGoogle } from '../support/clouds/google.ts';
import { startTestSite } from '../support/site.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

async function startCloud(kind: 'ecr' | 'google' | 'acr') {
  vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
  if (kind === 'google') {
    const google = await startGoogle();
    vi.stubEnv('GCE_METADATA_HOST', new URL(google.metadata.origin).host);
    return Object.assign(google, { expire: () => google.expireTokens(), asked: () => google.metadata.calls.length });
  }
  if (kind === 'acr') {
    const azure = await startAzure();
    vi.stubEnv('AZURE_POD_IDENTITY_AUTHORITY_HOST', azure.metadata.origin);
    return Object.assign(azure, { expire: () => azure.expireTokens(), asked: () => azure.metadata.calls.length });
  }
  const aws = await startAws();
  vi.stubEnv('AWS_ENDPOINT_URL_ECR', aws.ecr.origin);
  vi.stubEnv('AWS_EC2_METADATA_SERVICE_ENDPOINT', aws.metadata.origin);
  return Object.assign(aws, { expire: () => aws.expirePasswords(403), asked: () => aws.ecr.calls.length });
}

test.each(['google', 'acr', 'ecr'] as const)(
  'credentials by %s that expire in the middle of a pull are renewed once, and the pull goes on',
  async (provider) => {
    await using cloud = await startCloud(provider);
    const image = cloud.registry.addImage('team/app', 'v1', { layers: ['one', 'two', 'three', 'four'] });
    const auth = provider === 'ecr' ? { provider, region: 'eu-west-1' } : { provider };
    await using site = await startTestSite({ upstreams: { 'cloud.test': { urls: [cloud.registry.origin], auth } } });
    const status = async (path: string) => (await site.get(`/v2/team/app/${path}?ns=cloud.test`)).status;
    expect(await status('manifests/v1')).toBe(200);
    const [first, ...rest] = [image.config, ...image.layers].map(({ digest }) => `blobs/${digest}`);
    expect(await status(first!)).toBe(200);
    const before = cloud.asked();
    cloud.expire();
    // Clients ask for several layers at once.
    expect(await Promise.all(rest.map(status))).toEqual(rest.map(() => 200));
    expect([cloud.asked() - before, cloud.violations]).toEqual([1, []]);
  },
);
