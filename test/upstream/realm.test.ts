import { expect, test } from 'vitest';
import { trustedRealm } from '../../src/upstream/realm.ts';

function isTrusted(endpoint: string, realm: string, tokenRealms: readonly string[] = []): boolean {
  try {
    trustedRealm(realm, { upstream: 'reg.test', endpoint: new URL(endpoint), tokenRealms });
    return true;
  } catch {
    return false;
  }
}

test.each([
  ['https://registry-1.docker.io', 'https://auth.docker.io/token'],
  ['https://registry.gitlab.com', 'https://gitlab.com/jwt/auth'],
  ['https://registry.gitlab.example.com', 'https://gitlab.example.com/jwt/auth'],
  ['https://gitlab.example.com:5050', 'https://gitlab.example.com/jwt/auth'],
  ['https://gitlab.example.com:5050', 'https://gitlab.example.com:5050/jwt/auth'],
  ['http://gitlab.example.com:5050', 'https://gitlab.example.com/jwt/auth'],
  ['https://quay.io', 'https://quay.io/v2/auth'],
  ['https://one.azurecr.io', 'https://one.azurecr.io/oauth2/token'],
  ['https://us-docker.pkg.dev', 'https://us-docker.pkg.dev/v2/token'],
  ['https://registry.cn-hangzhou.aliyuncs.com', 'https://dockerauth.cn-hangzhou.aliyuncs.com/auth'],
  ['https://registry.digitalocean.com', 'https://api.digitalocean.com/v2/registry/auth'],
  ['http://registry.team.svc.cluster.local:5000', 'http://auth.team.svc.cluster.local/token'],
  ['http://127.0.0.1:5000', 'http://127.0.0.1:5000/token'],
])('an upstream at %s may be asked for tokens at %s', (endpoint, realm) => {
  expect(isTrusted(endpoint, realm)).toBe(true);
});

test.each([
  ['https://one.azurecr.io', 'https://two.azurecr.io/oauth2/token'],
  ['https://1.dkr.ecr.us-east-1.amazonaws.com', 'https://2.dkr.ecr.us-east-1.amazonaws.com/token'],
  ['https://1.dkr.ecr.us-east-1.amazonaws.com', 'https://ec2-1-2-3-4.compute.amazonaws.com/token'],
  ['https://us-docker.pkg.dev', 'https://europe-docker.pkg.dev/v2/token'],
  ['https://one.jfrog.io', 'https://two.jfrog.io/token'],
  ['https://fra.ocir.io', 'https://iad.ocir.io/token'],
  ['https://one-docker.tencentcloudcr.com', 'https://two.tencentcloudcr.com/token'],
  ['http://registry.team.svc.cluster.local', 'http://auth.other.svc.cluster.local/token'],
  ['http://registry.team.svc.k8s.corp.example', 'http://auth.other.svc.k8s.corp.example/token'],
  ['http://registry.team.svc', 'http://auth.other.svc/token'],
  ['https://one.github.io', 'https://two.github.io/token'],
  ['https://10-0-0-1.nip.io', 'https://10-0-0-2.nip.io/token'],
  ['https://registry.example.com:5000', 'https://registry.example.com:6000/token'],
  ['https://registry.example.com', 'https://registry.example.com:8443/token'],
  ['https://registry.example.com', 'https://auth.example.com:8443/token'],
  ['http://127.0.0.1:5000', 'http://127.0.0.1:5001/token'],
  ['http://localhost:5000', 'http://localhost:5001/token'],
  ['http://10.0.0.1', 'http://10.0.0.2/token'],
  ['https://registry.example.com', 'http://registry.example.com/token'],
  ['https://registry.example.com', 'https://evil.example/token'],
])('an upstream at %s may not be asked for tokens at %s', (endpoint, realm) => {
  expect(isTrusted(endpoint, realm)).toBe(false);
});

test('what tokenRealms lists may be, by host on every port, or by host and port', () => {
  const realm = 'https://auth.other.example:8443/token';
  expect(isTrusted('https://reg.example', realm, ['auth.other.example'])).toBe(true);
  expect(isTrusted('https://reg.example', realm, ['auth.other.example:8443'])).toBe(true);
  expect(isTrusted('https://reg.example', realm, ['auth.other.example:443'])).toBe(false);
});
