import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { basic } from '../access/support.ts';
import { errorAnswer } from '../support/answers.ts';
import { startAws } from '../support/clouds/aws.ts';
import { startAzure } from '../support/clouds/azure.ts';
import { startGoogle } from '../support/clouds/google.ts';
import { writeProgram } from '../support/programs.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

const kinds = ['google', 'acr', 'ecr 403', 'ecr 400', 'ecr-public', 'helper', 'kubelet', 'github', 'gitlab'] as const;
type Kind = (typeof kinds)[number];

async function startSource(kind: Kind) {
  vi.stubEnv('AWS_ACCESS_KEY_ID', undefined);
  switch (kind) {
    case 'google': {
      const google = await startGoogle();
      vi.stubEnv('GCE_METADATA_HOST', new URL(google.metadata.origin).host);
      const asked = () => google.metadata.calls.length;
      return Object.assign(google, { auth: { provider: kind }, expire: () => google.expireTokens(), asked });
    }
    case 'acr': {
      const azure = await startAzure();
      vi.stubEnv('AZURE_POD_IDENTITY_AUTHORITY_HOST', azure.metadata.origin);
      const asked = () => azure.metadata.calls.length;
      return Object.assign(azure, { auth: { provider: kind }, expire: () => azure.expireTokens(), asked });
    }
    case 'ecr 403':
    case 'ecr 400':
    case 'ecr-public': {
      const aws = await startAws();
      vi.stubEnv('AWS_ENDPOINT_URL_ECR', aws.ecr.origin);
      vi.stubEnv('AWS_ENDPOINT_URL_ECR_PUBLIC', aws.ecrPublic.origin);
      vi.stubEnv('AWS_EC2_METADATA_SERVICE_ENDPOINT', aws.metadata.origin);
      const auth = kind === 'ecr-public' ? { provider: kind } : { provider: 'ecr', region: 'eu-west-1' };
      const asked = () => aws.ecr.calls.length + aws.ecrPublic.calls.length;
      return Object.assign(aws, { auth, expire: () => aws.expirePasswords(kind === 'ecr 400' ? 400 : 403), asked });
    }
    case 'helper':
    case 'kubelet':
      return await startProgram(kind);
    case 'github':
    case 'gitlab':
      return await startStatic(kind);
    default:
      return kind satisfies never;
  }
}

/** A registry that takes one password at a time, which a program gives. */
async function startProgram(kind: 'helper' | 'kubelet') {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryDirectory('program')).path;
  const [current, runs] = [join(folder, 'current'), join(folder, 'runs')];
  writeFileSync(current, 'first');
  const registry = owned.use(
    await startRegistry({
      instead: ({ headers }) =>
        headers.authorization === basic('mirror', readFileSync(current, 'utf8')).authorization
          ? undefined
          : errorAnswer(401, 'UNAUTHORIZED', { 'WWW-Authenticate': 'Basic realm="registry.test"' }),
    }),
  );
  const response = {
    apiVersion: 'credentialprovider.kubelet.k8s.io/v1',
    kind: 'CredentialProviderResponse',
    cacheKeyType: 'Registry',
    cacheDuration: '1h',
  };
  const answer =
    kind === 'helper'
      ? `{ Username: 'mirror', Secret: password }`
      : `{ ...${JSON.stringify(response)}, auth: { '${registry.host}': { username: 'mirror', password } } }`;
  const body = `import { appendFileSync, readFileSync } from 'node:fs';
appendFileSync('${runs}', '.');
const password = readFileSync('${current}', 'utf8');
console.log(JSON.stringify(${answer}));`;
  const program = await writeProgram(folder, kind === 'helper' ? 'docker-credential-test' : 'provider', body);
  vi.stubEnv('PATH', `${folder}:${process.env['PATH']}`);
  const held = owned.move();
  return {
    registry,
    violations: [],
    auth: kind === 'helper' ? { helper: 'test' } : { kubeletProvider: program },
    expire: () => writeFileSync(current, 'second'),
    asked: () => readFileSync(runs, 'utf8').length,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

/** A registry whose tokens, which a password opens, end. */
async function startStatic(provider: 'github' | 'gitlab') {
  const username = provider === 'github' ? 'token' : 'gitlab-ci-token';
  const registry = await startRegistry({ token: { credentials: { username, password: 'secret' } } });
  return {
    registry,
    violations: [],
    auth: { provider, username, password: 'secret' },
    expire: () => registry.tokens.revokeAll(),
    asked: () => registry.tokenServer.requests.length,
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  };
}

async function pullThrough(stack: AsyncDisposableStack, kind: Kind) {
  const source = stack.use(await startSource(kind));
  const { registry, auth } = source;
  const upstreams = { 'cloud.test': { urls: [registry.origin], auth } };
  const site = stack.use(await startTestSite({ upstreams }));
  return { source, registry, get: (path: string) => site.get(`/v2/team/app/${path}?ns=cloud.test`) };
}

test.each(kinds)(
  'credentials by %s that expire in the middle of a pull are renewed once, and the pull goes on',
  async (kind) => {
    await using stack = new AsyncDisposableStack();
    const { source, registry, get } = await pullThrough(stack, kind);
    const image = registry.addImage('team/app', 'v1', { layers: ['one', 'two', 'three', 'four'] });
    expect((await get('manifests/v1')).status).toBe(200);
    const [first, ...rest] = [image.config, ...image.layers].map(({ digest }) => `blobs/${digest}`);
    expect((await get(first!)).status).toBe(200);
    const before = source.asked();
    source.expire();
    // Clients ask for several layers at once.
    const answers = await Promise.all(rest.map(get));
    expect(answers.map(({ status }) => status)).toEqual(rest.map(() => 200));
    expect([source.asked() - before, source.violations]).toEqual([1, []]);
  },
);

test.each(kinds)(
  'credentials by %s that expire while a blob comes, before the rest of it is asked for, are renewed: the client sees one body',
  async (kind) => {
    await using stack = new AsyncDisposableStack();
    const { source, registry, get } = await pullThrough(stack, kind);
    const layer = registry.addBlob({ size: 2 * 1024 * 1024, seed: kind });
    registry.addImage('team/app', 'v1', { layers: [layer] });
    expect((await get('manifests/v1')).status).toBe(200);
    const before = source.asked();
    const cut = { kind: 'cut', afterBytes: 1024 * 1024 } as const;
    const placed = registry.fault(layer.digest, cut, { times: 1 });
    void placed.reached.then(() => source.expire());
    expect(await get(`blobs/${layer.digest}`)).toMatchObject({ status: 200, complete: true, sha256: layer.digest });
    const ranges = registry.requestsFor(layer.digest).map(({ headers }) => headers.range);
    expect(ranges.filter((range) => range !== undefined).length).toBeGreaterThan(0);
    expect(registry.bytesSent(layer.digest)).toBeLessThan(layer.size + 10_000);
    expect([source.asked() - before, source.violations]).toEqual([1, []]);
  },
);
