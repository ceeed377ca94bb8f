import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { get } from '../support/client.ts';
import { startAws } from '../support/clouds/aws.ts';
import { startAzure } from '../support/clouds/azure.ts';
import { startGoogle } from '../support/clouds/google.ts';
import { startTestSite } from '../support/site.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

test('secrets of clouds go to their own place, and nowhere else: not to logs, errors, metrics, status or the disk', async () => {
  await using aws = await startAws();
  await using google = await startGoogle();
  await using azure = await startAzure();
  vi.stubEnv('AWS_ENDPOINT_URL_ECR', aws.ecr.origin);
  vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
  vi.stubEnv('AWS_EC2_METADATA_SERVICE_ENDPOINT', aws.metadata.origin);
  vi.stubEnv('GCE_METADATA_HOST', new URL(google.metadata.origin).host);
  vi.stubEnv('AZURE_POD_IDENTITY_AUTHORITY_HOST', azure.metadata.origin);
  const clouds = { 'ecr.example': aws, 'gar.example': google, 'acr.example': azure };
  await using site = await startTestSite({
    upstreams: {
      'ecr.example': { urls: [aws.registry.origin], auth: { provider: 'ecr', region: 'eu-west-1' } },
      'gar.example': { urls: [google.registry.origin], auth: { provider: 'google' } },
      'acr.example': { urls: [azure.registry.origin], auth: { provider: 'acr' } },
    },
    config: { cache: { tagTtl: '0s' } },
  });
  const answers: string[] = [];
  const ask = async (path: string) => {
    const reply = await get(`${site.origin}${path}`);
    answers.push(JSON.stringify(reply.headers), reply.body.toString());
    return reply.status;
  };
  for (const [name, { registry }] of Object.entries(clouds)) {
    const image = registry.addImage('team/app', 'v1');
    expect(await ask(`/v2/team/app/manifests/v1?ns=${name}`), name).toBe(200);
    for (const { digest } of [image.config, ...image.layers]) {
      expect(await ask(`/v2/team/app/blobs/${digest}?ns=${name}`), name).toBe(200);
    }
    expect(await ask(`/v2/team/app/manifests/absent?ns=${name}`), name).toBe(404);
  }
  aws.refuse('AccessDeniedException');
  aws.expirePasswords(403);
  expect(await ask('/v2/team/app/manifests/other?ns=ecr.example')).toBe(403);
  expect([...aws.violations, ...google.violations, ...azure.violations]).toEqual([]);
  await ask('/metrics');
  await ask('/readyz');
  expect(answers.at(-1)).toContain('gets its credentials from Amazon ECR, which answered 400 AccessDeniedException');
  const { cacheDir } = site;
  await site.stop();
  const files = (await readdir(cacheDir, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  const stored = await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), 'latin1')));
  const written = [...answers, ...site.logLines.map((line) => JSON.stringify(line)), ...stored];
  expect(written.length).toBeGreaterThan(30);
  expect(written.filter((text) => text.includes('canary'))).toEqual([]);
  // Each registry was sent its own password or token only.
  const sent = Object.values(clouds).map(({ registry }) =>
    registry.requests.map(
      ({ headers, body }) =>
        `${headers.authorization ?? ''} ${Buffer.from((headers.authorization ?? '').replace(/^\w+ /, ''), 'base64').toString()} ${body}`,
    ),
  );
  const marks = ['AWS:canary-', 'ya29', 'refresh_token'];
  for (const [index, requests] of sent.entries()) {
    for (const [other, mark] of marks.entries()) {
      expect(
        requests.some((text) => text.includes(mark)),
        `${marks[other]} at ${index}`,
      ).toBe(index === other);
    }
  }
});
