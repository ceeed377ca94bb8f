import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type JWK, SignJWT } from 'jose';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

/** A key of an issuer. */
export interface SigningKey {
  readonly privateKey: KeyObject;
  readonly jwk: JWK;
}

export function signingKey(kid: string): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, jwk: { ...(publicKey.export({ format: 'jwk' }) as JWK), kid, alg: 'ES256', use: 'sig' } };
}

interface Review {
  readonly authenticated: boolean;
  readonly audiences?: readonly string[];
}

/** An issuer that is an API server too, as strict about what it is asked as the real ones. */
export async function startIssuer(stack: AsyncDisposableStack) {
  const asked: string[] = [];
  const problems: string[] = [];
  const state = {
    keys: [signingKey('one')],
    isDown: false,
    review: { authenticated: true } as Review,
    origin: '',
    /** What its document says that it is; absent: what it is. */
    named: undefined as string | undefined,
    /** What it answers instead of its keys. */
    failure: undefined as { readonly status: number; readonly body: unknown } | undefined,
  };
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    asked.push(`${method} ${url}`);
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    };
    if (state.isDown) return void response.destroy();
    if (headers['authorization'] !== 'Bearer own-token') {
      problems.push(`${url} without the pod's own token`);
      return send(401, { kind: 'Status', code: 401 });
    }
    if (url === '/.well-known/openid-configuration') {
      return send(200, { issuer: state.named ?? state.origin, jwks_uri: `${state.origin}/openid/v1/jwks` });
    }
    if (url === '/openid/v1/jwks' && state.failure) return send(state.failure.status, state.failure.body);
    if (url === '/openid/v1/jwks') return send(200, { keys: state.keys.map(({ jwk }) => jwk) });
    if (url !== '/apis/authentication.k8s.io/v1/tokenreviews' || method !== 'POST') return send(404, {});
    return void text(request).then((body) => {
      const review = JSON.parse(body) as Record<string, unknown>;
      const { apiVersion, kind, spec, ...rest } = review;
      const { token, audiences } = spec as { token: unknown; audiences: unknown };
      const isWellFormed =
        apiVersion === 'authentication.k8s.io/v1' &&
        kind === 'TokenReview' &&
        Object.keys(rest).length === 0 &&
        typeof token === 'string' &&
        JSON.stringify(audiences) === '["millpond"]' &&
        headers['content-type'] === 'application/json';
      if (!isWellFormed) problems.push(`a review that is none: ${body}`);
      const { authenticated, audiences: good = ['millpond'] } = state.review;
      const user = { username: 'system:serviceaccount:ci:builder', groups: ['system:serviceaccounts:ci'] };
      send(201, { ...review, status: authenticated ? { authenticated, user, audiences: good } : { authenticated } });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => new Promise<void>((resolve) => void server.close(() => resolve())));
  state.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { state, asked, problems };
}

export type Issuer = Awaited<ReturnType<typeof startIssuer>>;

/** A token that is good but for the claims that are given. */
export function sign(
  { state }: Issuer,
  claims: Readonly<Record<string, unknown>> = {},
  key = state.keys[0]!,
): Promise<string> {
  const all = { sub: 'system:serviceaccount:ci:builder', 'kubernetes.io': { namespace: 'ci' }, ...claims };
  const made = new SignJWT(all).setProtectedHeader({ alg: 'ES256', kid: String(key.jwk.kid) });
  if (!('iss' in claims)) made.setIssuer(state.origin);
  if (!('aud' in claims)) made.setAudience('millpond');
  if (!('exp' in claims)) made.setExpirationTime('10m');
  return made.sign(key.privateKey);
}

/** A mirror that knows the issuer, and what it answers to what is shown. */
export async function startIssuerSite(
  stack: AsyncDisposableStack,
  issuer: Issuer,
  more: Readonly<Record<string, unknown>> & { readonly now?: () => number } = {},
) {
  const folder = stack.use(await temporaryFolder());
  const tokenFile = join(folder.path, 'token');
  await writeFile(tokenFile, 'own-token\n');
  const registry = stack.use(await startRegistry());
  const blob = registry.addBlob({ size: 100, seed: 'one' });
  const { now, ...settings } = more;
  const config = {
    auth: {
      issuers: [{ issuer: issuer.state.origin, audience: 'millpond', tokenFile, prefix: 'k8s:', ...settings }],
      policies: [
        {
          users: ['k8s:system:serviceaccount:ci:*'],
          claims: ['kubernetes.io.namespace=ci'],
          repositories: ['registry.test/{claim.kubernetes.io.namespace}/**'],
        },
      ],
    },
  };
  const site = stack.use(
    await startTestSite({ upstreams: { 'registry.test': registry }, config, ...(now && { now }) }),
  );
  const status = async (headers: Readonly<Record<string, string>>, repository = 'ci/app'): Promise<number> =>
    (await site.get(`/v2/registry.test/${repository}/blobs/${blob.digest}`, { headers })).status;
  return { site, status };
}
