import { expect, test } from 'vitest';
import { parseChallenges } from '../../src/upstream/challenge.ts';
import { retryAfterSeconds } from '../../src/upstream/failures.ts';
import { nextQuery, withoutSelection } from '../../src/upstream/link.ts';
import { trustedRealm } from '../../src/upstream/realm.ts';
import { repositoryFilter } from '../../src/upstream/repository-rules.ts';

const read = (header: string | undefined) =>
  parseChallenges(header).map(({ scheme, parameters }) => ({ scheme, ...Object.fromEntries(parameters) }));

test.each<[string, string | undefined, object[]]>([
  ['no header', undefined, []],
  [
    'the usual one',
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b:pull,push"',
    [
      {
        scheme: 'bearer',
        realm: 'https://auth.docker.io/token',
        service: 'registry.docker.io',
        scope: 'a:b:pull,push',
      },
    ],
  ],
  [
    'several in one header',
    'Basic realm="x", Bearer realm="y",service=z , Negotiate',
    [{ scheme: 'basic', realm: 'x' }, { scheme: 'bearer', realm: 'y', service: 'z' }, { scheme: 'negotiate' }],
  ],
  [
    'escapes inside quotes',
    String.raw`Bearer realm="a\"b\\c, Basic d=e"`,
    [{ scheme: 'bearer', realm: String.raw`a"b\c, Basic d=e` }],
  ],
  [
    'any case and loose spacing',
    'BEARER  Realm = "https://h/t" ,SERVICE= s',
    [{ scheme: 'bearer', realm: 'https://h/t', service: 's' }],
  ],
  [
    'a value without quotes',
    'Bearer realm=https://h/t,service=s',
    [{ scheme: 'bearer', realm: 'https://h/t', service: 's' }],
  ],
  ['the first of two equal parameters', 'Bearer realm="a",realm="b"', [{ scheme: 'bearer', realm: 'a' }]],
])('a challenge is read: %s', (_, header, expected) => {
  expect(read(header)).toEqual(expected);
});

test.each<[string, string, string, string[]]>([
  ['the same host', 'https://ghcr.io', 'https://ghcr.io/token', []],
  ['the same domain', 'https://registry-1.docker.io', 'https://auth.docker.io/token', []],
  ['a listed host', 'https://reg.example.com', 'https://login.example.net/token', ['Login.example.net']],
  [
    'a listed host with its port',
    'https://reg.example.com',
    'https://login.example.net:8443/t',
    ['login.example.net:8443'],
  ],
  ['another host of one tenant of a shared suffix', 'https://reg.a.github.io', 'https://auth.a.github.io/token', []],
  ['https for an endpoint without', 'http://reg.example.com', 'https://reg.example.com/t', []],
])('a realm is trusted: %s', (_, endpoint, realm, tokenRealms) => {
  expect(trustedRealm(realm, { upstream: 'x', endpoint: new URL(endpoint), tokenRealms }).href).toBe(realm);
});

test.each<[string, string, string, string[]]>([
  ['another domain', 'https://registry-1.docker.io', 'https://auth.evil.example/token', []],
  ['another tenant of a shared suffix', 'https://a.github.io', 'https://b.github.io/token', []],
  ['a domain that ends alike', 'https://reg.docker.io', 'https://auth.notdocker.io/token', []],
  ['another port of the same address', 'http://127.0.0.1:5000', 'http://127.0.0.1:5001/token', []],
  ['another address', 'http://127.0.0.1:5000', 'http://127.0.0.2:5000/token', []],
  ['localhost beside an address', 'http://127.0.0.1', 'http://localhost/token', []],
  ['a name without a domain', 'http://registry', 'http://auth/token', []],
  [
    'plain http for https, even when listed',
    'https://reg.example.com',
    'http://auth.example.com/t',
    ['auth.example.com'],
  ],
  [
    'another port than the listed one',
    'https://reg.example.com',
    'https://login.example.net:1/t',
    ['login.example.net:8443'],
  ],
  ['something else than http', 'https://reg.example.com', 'file:///etc/passwd', []],
  ['something else than http for one without TLS', 'http://reg.example.com', 'ftp://reg.example.com/t', []],
  ['no address at all', 'http://reg.example.com', 'reg.example.com/t', []],
  ['credentials in the address', 'https://reg.example.com', 'https://u:p@reg.example.com/t', []],
])('a realm is refused: %s', (_, endpoint, realm, tokenRealms) => {
  const decide = () => trustedRealm(realm, { upstream: 'x', endpoint: new URL(endpoint), tokenRealms });
  expect(decide).toThrow(expect.objectContaining({ code: 'UNAVAILABLE', status: 502 }));
});

test('a refused realm is named together with the setting that would allow it', () => {
  const endpoint = new URL('https://reg.example.com');
  expect(() => trustedRealm('https://a.evil.example/t?x=1', { upstream: 'x', endpoint, tokenRealms: [] })).toThrow(
    /a\.evil\.example.*upstreams\.x\.tokenRealms/,
  );
});

test.each<[string, string | undefined, string | undefined]>([
  ['none', undefined, undefined],
  ['relative', '</v2/a/tags/list?n=2&last=b>; rel="next"', 'n=2&last=b'],
  ['absolute', '<https://quay.io/v2/a/tags/list?next_page=gAAA%3D%3d+/&n=50>; rel=next', 'next_page=gAAA%3D%3d+/&n=50'],
  ['among others', '<?a=1>; rel="prev", <?last=x,y>; title="a, b"; rel="last next"', 'last=x,y'],
  ['with what selects the upstream', '<?n=1&ns=docker.io&last=z&OCI-Ref-Name=q>; rel="next"', 'n=1&last=z'],
  ['with another relation only', '<?n=1>; rel="last"', undefined],
  ['without a query', '</v2/a/tags/list>; rel="next"', undefined],
])('the next page of a Link header: %s', (_, header, expected) => {
  expect(nextQuery(header)).toBe(expected);
});

test('a query keeps every letter of what does not select the upstream', () => {
  expect(withoutSelection('n=10&ns=docker.io&last=a%2fb+c&oci-ref-name=x&n%73=y')).toBe('n=10&last=a%2fb+c');
});

test.each<[string | undefined, number | undefined]>([
  ['120', 120],
  [' 0 ', 0],
  ['Thu, 01 Jan 2026 00:01:00 GMT', 60],
  ['Wed, 31 Dec 2025 00:00:00 GMT', 0],
  ['soon', undefined],
  ['-5', undefined],
  ['', undefined],
  [undefined, undefined],
])('Retry-After %s is %s seconds', (header, seconds) => {
  expect(retryAfterSeconds(header, Date.UTC(2026, 0, 1))).toBe(seconds);
});

test.each<[string, string, boolean]>([
  ['library/**', 'library/ubuntu', true],
  ['library/**', 'library/a/b', true],
  ['library/**', 'library', false],
  ['bitnami/*', 'bitnami/redis', true],
  ['bitnami/*', 'bitnami/a/b', false],
  ['**/app', 'app', true],
  ['**/app', 'a/b/app', true],
  ['**/app', 'myapp', false],
  ['a.b', 'axb', false],
  ['**', 'any/thing', true],
])('the glob %s matches %s: %s', (glob, repository, expected) => {
  expect(repositoryFilter({ allow: [glob] })(repository)).toBe(expected);
  expect(repositoryFilter({ deny: [glob] })(repository)).toBe(!expected);
});
