import type { IncomingHttpHeaders } from 'node:http';
import { describe, expect, test } from 'vitest';
import { parseChallenges } from '../../src/upstream/challenge.ts';
import { endpointPath } from '../../src/upstream/endpoint-path.ts';
import { decide, tagRule } from '../../src/upstream/freshness.ts';
import { nextQuery, onlySelection, withoutSelection } from '../../src/upstream/link.ts';
import { ageOf, isFullParent, isRemembered, parentError } from '../../src/upstream/parent.ts';
import { endOf, isCurrent, readRateLimit } from '../../src/upstream/rate-limit.ts';
import { trustedRealm } from '../../src/upstream/realm.ts';
import { tenantOf } from '../../src/upstream/tenants.ts';

describe('a challenge', () => {
  test('loses parameters before the first scheme, and what comes after 8192 characters', () => {
    expect(parseChallenges('realm="x", Basic a="b"')).toEqual([{ scheme: 'basic', parameters: new Map([['a', 'b']]) }]);
    const [read] = parseChallenges(`Bearer ${' '.repeat(8192 - 'Bearer a=12'.length)}a=12345`);
    expect(read?.parameters.get('a')).toBe('12');
  });

  test('may have an empty value, and spaces around the equals sign', () => {
    expect([...parseChallenges('Bearer realm = "", service\t=\ts')[0]!.parameters]).toEqual([
      ['realm', ''],
      ['service', 's'],
    ]);
  });
});

describe('what a mirror says of its answer', () => {
  test.each<[IncomingHttpHeaders, object | undefined]>([
    [{}, undefined],
    [{ 'cache-status': 'nginx;hit' }, undefined],
    [
      { 'cache-status': 'millpond;hit', age: '12' },
      { seconds: 12, isStale: false },
    ],
    [
      { 'cache-status': 'millpond;hit;detail=stale', age: '12' },
      { seconds: 12, isStale: true },
    ],
    [{ 'cache-status': 'millpond; hit ; detail=stale-while-revalidate' }, { seconds: 0, isStale: true }],
    [
      { 'cache-status': 'millpond;hit', age: '1x' },
      { seconds: 0, isStale: false },
    ],
    [
      { 'cache-status': 'millpond;hit', age: 'x1' },
      { seconds: 0, isStale: false },
    ],
    [
      { 'cache-status': 'millpond;hit', age: '1234567890' },
      { seconds: 0, isStale: false },
    ],
    [{ 'cache-status': 'millpond;detail=stale, millpond;hit, cdn;detail=stale' }, { seconds: 0, isStale: false }],
    [{ 'cache-status': ['cdn;hit', 'millpond;detail=stale'] }, { seconds: 0, isStale: true }],
  ])('of age: %j', (headers, expected) => {
    expect(ageOf(headers)).toEqual(expected);
  });

  test('of a "not found": whether it remembers it', () => {
    expect(isRemembered({ 'cache-status': 'millpond;hit;detail=negative' })).toBe(true);
    expect(isRemembered({ 'cache-status': 'millpond;hit' })).toBe(false);
    expect(isRemembered({})).toBe(false);
  });

  test('of a failure: why it could not ask', () => {
    const full = { 'proxy-status': 'millpond;error=connection_limit_reached' };
    expect(parentError({ 'proxy-status': 'millpond;received-status=1;error=dns_error' })).toBe('dns_error');
    expect(parentError({ 'proxy-status': `millpond;error=${'x'.repeat(100)}` })).toBe('x'.repeat(54));
    expect(parentError({ 'proxy-status': 'millpond;noerror=1' })).toBeUndefined();
    expect(parentError({ 'proxy-status': 'other;error=dns_error' })).toBeUndefined();
    expect(parentError({})).toBeUndefined();
    expect(isFullParent(full)).toBe(true);
    expect(isFullParent({ 'proxy-status': 'millpond;error=dns_error' })).toBe(false);
    expect(isFullParent({ 'proxy-status': `${' '.repeat(2_000)},${full['proxy-status']}` })).toBe(false);
  });
});

describe('the times of a tag', () => {
  const times = { tagTtlMs: 1, staleIfErrorMs: 2, negativeTtlMs: 3 };
  const rule = (match: string, repositories: readonly string[] = []) =>
    tagRule({ ...times, tagTtlMs: match.length * 100, match, repositories });

  test('are those of the first rule that matches tag and repository', () => {
    const tags = [rule('v1', ['team/*']), rule('v*'), rule('*')];
    const of = (repository: string, tag: string) => decide({ ...times, tags }, { repository, tag });
    expect(of('team/app', 'v1')).toEqual({ times: tags[0], rule: tags[0], position: 0 });
    expect(of('other/app', 'v1')).toEqual({ times: tags[1], rule: tags[1], position: 1 });
    expect(of('team/app', 'latest')).toMatchObject({ position: 2, times: { tagTtlMs: 100 } });
    expect(tags[0]).toMatchObject({ ...times, tagTtlMs: 200, match: 'v1', repositories: ['team/*'] });
  });

  test('are those of the upstream where none does', () => {
    const own = { times: expect.objectContaining(times), rule: undefined, position: undefined };
    expect(decide(times, { repository: 'a', tag: 'b' })).toEqual(own);
    expect(decide({ ...times, tags: [rule('v1')] }, { repository: 'a', tag: 'b' })).toEqual(own);
  });
});

describe('a query', () => {
  test('is parted into what selects the upstream and the rest', () => {
    const query = 'n=1&NS=docker.io&&n%73=y&oci-ref-name=q&last=z&%zz=1';
    expect(onlySelection(query)).toBe('NS=docker.io&n%73=y&oci-ref-name=q');
    expect(withoutSelection(query)).toBe('n=1&last=z&%zz=1');
    expect(onlySelection('')).toBe('');
  });

  test.each<[string, string | undefined]>([
    ['<?a=1>; rel="next", <?a=2>; rel="next"', 'a=1'],
    ['<?a=1> ;\trel\t=  next', 'a=1'],
    ['<?a=1>; REL=NEXT', 'a=1'],
    ['<?a=1>; rel=prev; rel=next, <?a=2>; rel=next', 'a=2'],
    ['<?a=1>; title="x\\"; rel=next"; rel=prev', undefined],
    ['<?a=1>; title="x\\"y"; rel=next', 'a=1'],
    ['<?a=1>; flag; rel=next', 'a=1'],
    ['<?a=1>; rel="next', 'a=1'],
    ['<?a=1>; rel="next\\', undefined],
    ['<?a=1>; rel=nexts', undefined],
    ['<?a=1#f?b=2>; rel=next', 'a=1'],
    ['</x#?a=1>; rel=next', undefined],
    ['<?a=1', undefined],
    ['?a=1>; rel=next', undefined],
    ['<?a=1>; rel=prev, <?a=2>', 'a=2'],
    ['<?a=1>x; rel=next', 'a=1'],
    ['<?a=1>; rel=next;', 'a=1'],
    ['<?a=1>; rel="first next"', 'a=1'],
    ['<?a=1>; rel="first\tnext"', undefined],
    ['<?a=1>; rel=next,<?a=2>; rel=next', 'a=1'],
    ['<?a=1>; rel=a"b, <?a=2>; rel=next', 'a=2'],
  ])('of the next page of %s is %s', (header, expected) => {
    expect(nextQuery(header)).toBe(expected);
  });
});

test('a pull budget is valid until its window is over, and an hour where it tells none', () => {
  const limit = readRateLimit({ 'ratelimit-remaining': '5;w=60' }, 1_000)!;
  expect([isCurrent(limit, 60_999), isCurrent(limit, 61_000)]).toEqual([true, false]);
  expect(endOf(readRateLimit({ 'ratelimit-remaining': '5' }, 1_000)!)).toBe(3_601_000);
});

test.each<[string | string[], number | undefined]>([
  [['7;w=1', '8;w=1'], 7],
  ['999999999', 999_999_999],
  ['x5', undefined],
  ['5x', undefined],
  ['5;w=', undefined],
  ['5;w=1x', undefined],
  ['5  ;  w=1', 5],
])('of the pull budget %j, %s pulls are left', (header, remaining) => {
  expect(readRateLimit({ 'ratelimit-remaining': header }, 0)?.remaining).toBe(remaining);
});

test.each([
  ['http://h', ''],
  ['http://h/', ''],
  ['http://h/a/b//', '/a/b'],
  ['http://h//', ''],
])('the path of the endpoint %s is "%s"', (url, expected) => {
  expect(endpointPath(new URL(url))).toBe(expected);
});

describe('a realm', () => {
  const trusted = (endpoint: string, realm: string, tokenRealms: string[] = []) => {
    try {
      return trustedRealm(realm, { upstream: 'x', endpoint: new URL(endpoint), tokenRealms }).href;
    } catch {
      return undefined;
    }
  };

  test.each([
    ['https://git.example.com:5050', 'https://git.example.com/jwt/auth', true],
    ['https://git.example.com:5050', 'https://git.example.com:5050/jwt', true],
    ['https://git.example.com:5050', 'https://git.example.com:5051/jwt', false],
    ['https://a.example.com', 'https://user@auth.example.com/t', false],
    ['https://a.example.com', 'https://:p@auth.example.com/t', false],
    ['https://mine.azurecr.io', 'https://mine.azurecr.io/oauth2/token', true],
    ['https://mine.azurecr.io', 'https://yours.azurecr.io/oauth2/token', false],
    ['https://mine.azurecr.io', 'https://azurecr.io/oauth2/token', false],
    ['http://reg.team.svc.cluster.local', 'http://auth.team.svc.cluster.local/t', true],
    ['http://reg.team.svc', 'http://auth.other.svc/t', false],
  ])('of the endpoint %s is trusted at %s: %s', (endpoint, realm, expected) => {
    expect(trusted(endpoint, realm)).toBe(expected ? realm : undefined);
  });

  test('is asked without the fragment of its address', () => {
    expect(trusted('https://a.example', 'https://a.example/t?x=1#f')).toBe('https://a.example/t?x=1');
  });
});

test.each([
  ['a.b.azurecr.io', 'b.azurecr.io'],
  ['B.AZURECR.IO.', 'b.azurecr.io'],
  ['azurecr.io', 'azurecr.io'],
  ['notazurecr.io', undefined],
  ['1.dkr.ecr.eu-west-1.amazonaws.com', '1.dkr.ecr.eu-west-1.amazonaws.com'],
  ['x.1.dkr.ecr.eu-west-1.amazonaws.com', '1.dkr.ecr.eu-west-1.amazonaws.com'],
  ['x.s3.amazonaws.com', 's3.amazonaws.com'],
  ['a.b.westeurope.cloudapp.azure.com', 'b.westeurope.cloudapp.azure.com'],
  ['cloudapp.azure.com', undefined],
  ['reg.team.svc', 'team.svc'],
  ['reg.team.svc.cluster.local', 'team.svc.cluster.local'],
  ['10-0-0-1.team.pod.cluster.local', 'team.pod.cluster.local'],
  ['team.svc', 'team.svc'],
  ['svc', undefined],
  ['reg.team.svcx', undefined],
  ['example.com', undefined],
])('the tenant of %s is %s', (host, expected) => {
  expect(tenantOf(host)).toBe(expected);
});
