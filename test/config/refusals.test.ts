import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { nearestWord } from '../../src/config/problems.ts';
import { ConfigFolder, loadText, problemsOf } from './sources.ts';

test.each([
  ['cache:\n  dir: x\n  tagTTl: 5s\n', 'millpond.yaml:3: unknown key "tagTTl" in cache; did you mean "tagTtl"?'],
  ['ofline: true\n', 'millpond.yaml:1: unknown key "ofline"; did you mean "offline"?'],
  ['\nlog:\n  colour: red\n', 'millpond.yaml:3: unknown key "colour" in log; accepted here: level, format, auditFile'],
  [
    'upstreams:\n  docker.io:\n    repositories:\n      alow: []\n',
    'millpond.yaml:4: unknown key "alow" in upstreams."docker.io".repositories; did you mean "allow"?',
  ],
])('an unknown key is refused with its line and the nearest key: %j', async (text, problem) => {
  expect(await problemsOf(text)).toEqual([problem]);
});

test.each([
  ['serve: { threads: 0 }', 'serve.threads: found 0'],
  ['serve: { sendfile: often }', 'serve.sendfile: found "often"'],
  ['redis: {}', 'redis.url is missing'],
  ['redis: { url: "http://127.0.0.1" }', 'redis.url: found "http://127.0.0.1"; accepted: redis://'],
  ['redis: { url: "redis://:pw@a,b" }', 'redis.url: found "redis://[hidden]@a,b"; accepted: redis://'],
  ['redis: { url: "redis+sentinel://a:26379" }', 'redis.url: found "redis+sentinel://a:26379"; accepted: redis://'],
  ['redis: { url: "redis://127.0.0.1" }', 'cluster.secretFile is missing: with redis'],
  [
    'listen: :5000\nredis: { url: "redis://a" }\ncluster: { secretFile: s }',
    'cluster.advertise is missing: with redis',
  ],
  ['cluster: { advertise: "http://a/b" }', 'cluster.advertise: found "http://a/b"; accepted: a URL without a path'],
  ...['http://0.0.0.0:5000', 'https://[::]:5000', 'http://10.0.0.7:0'].map((url): [string, string] => [
    `cluster: { advertise: "${url}" }`,
    `cluster.advertise: found "${url}"; accepted: an address that others can reach`,
  ]),
  ['cluster: { placement: here }', 'cluster.placement: found "here"; accepted: everywhere, sharded'],
  ['cluster: { copies: 0 }', 'cluster.copies: found 0; accepted: a whole number from 1 to 16'],
  [
    'redis: { url: "redis://a" }\ncluster: { secretFile: s }\nhosted: { repositories: ["local/**"] }',
    'hosted.owner is missing: with redis',
  ],
  [
    'hosted: { repositories: ["local/**"], owner: "http://10.0.0.7:5000" }',
    'hosted.owner: has no meaning without redis',
  ],
])('replicas that could not find or trust one another are refused: %s', async (text, problem) => {
  expect((await problemsOf(text)).join('\n')).toContain(problem);
});

test.each([
  ['listen: 127.0.0.1:5000', 'http://127.0.0.1:5000', true],
  ['listen: 127.0.0.1:5000', 'http://127.0.0.1:5000/v2/quay.io', true],
  ['listen: 127.0.0.1:5000', 'http://localhost:5000', true],
  ['listen: :5000', 'http://127.0.0.3:5000', true],
  ['listen: :5000', 'http://[::1]:5000', true],
  ['listen: "[::1]:5000"', 'http://[::1]:5000', true],
  ['listen: mirror.example:80', 'http://mirror.example', true],
  ['listen: :443', 'https://localhost', true],
  ['listen: :5001\ncluster: { advertise: "http://10.0.0.7:5000" }', 'http://10.0.0.7:5000/v2/docker.io', true],
  ['listen: 127.0.0.1:5000', 'http://127.0.0.1:5001', false],
  ['listen: 127.0.0.1:5000', 'http://127.0.0.2:5000', false],
  ['listen: 10.0.0.7:5000', 'http://localhost:5000', false],
  ['listen: 127.0.0.1:0', 'http://127.0.0.1:5000', false],
  ['listen: :5000', 'http://region.example:5000', false],
  ['listen: :5000\ncluster: { advertise: "http://10.0.0.7:5000" }', 'http://10.0.0.8:5000', false],
])('an upstream that is the mirror itself is refused: %s, %s', async (text, url, isLoop) => {
  const problems = await problemsOf(`${text}\nupstreams: { docker.io: { urls: ["https://a.example", "${url}"] } }`);
  expect(problems.map((problem) => problem.replace(/^millpond\.yaml:\d+: /, ''))).toEqual(
    isLoop
      ? [
          'upstreams."docker.io".urls[1]: leads back to this mirror, which would ask itself; accepted: the URL of a registry or of another mirror',
        ]
      : [],
  );
});

test('a Redis in the environment needs the secret of the replicas, and its password is not shown', async () => {
  await using folder = await ConfigFolder.create();
  const environment = { MILLPOND_REDIS_URL: 'redis://user:pw@127.0.0.1' };
  await expect(folder.load({ environment })).rejects.toThrow(/cluster\.secretFile is missing/);
  await folder.write('millpond.yaml', 'cluster: { secretFile: /run/secret }');
  const { config } = await folder.load({ environment });
  expect(config.redis?.url).toMatchObject({ kind: 'single', username: 'user', hosts: [{ port: 6379 }] });
  expect(config.redis?.url.password?.reveal()).toBe('pw');
  expect(inspect(config, { depth: 9 })).not.toMatch(/pw@|'pw'/);
});

test.each([
  ['listen: 5000', 'listen: found 5000; accepted: an address and a port'],
  ['listen: localhost:65536', 'listen: found "localhost:65536"; accepted: an address and a port'],
  ['listen: ::1:5000', 'listen: found "::1:5000"; accepted: an address and a port'],
  ['cache: { maxSize: 100 }', 'cache.maxSize: found 100; accepted: a size with its unit'],
  ['cache: { maxSize: 0 }', 'cache.maxSize: found 0; accepted: a size of at least 1 bytes'],
  ['cache: { tagTtl: }', 'cache.tagTtl: found nothing; accepted: a duration with its unit'],
  ['cache: { tagTtl: [1s] }', 'cache.tagTtl: found a list; accepted: a duration with its unit'],
  ['cache: 5', 'cache: accepted: a mapping (key: value)'],
  ['timeouts: { connect: 0 }', 'timeouts.connect: found 0; accepted: a duration of at least 1ms'],
  ['timeouts: { idle: 30d }', 'timeouts.idle: found "30d"; accepted: a duration of at most 24d'],
  ['offline: yes', 'offline: found "yes"; accepted: true or false'],
  ['log: { level: verbose }', 'log.level: found "verbose"; accepted: trace, debug, info, warn, error, fatal, silent'],
  ['tls: { certFile: a.pem }', 'tls.keyFile is missing'],
  ['upstreams: {}', 'upstreams: holds no upstream'],
  [
    'upstreams: { a.example: { repositories: { allow: [] } } }',
    'upstreams."a.example".repositories.allow: found an empty list; accepted: a list of at least one',
  ],
  ['upstreams: { a.example: { urls: [] } }', 'upstreams."a.example".urls: found an empty list'],
  ['upstreams: { a.example: { urls: https://a } }', 'upstreams."a.example".urls: accepted: a list'],
  [
    'upstreams: { a.example: { urls: ["ftp://a"] } }',
    'upstreams."a.example".urls[0]: found "ftp://a"; accepted: a URL such as',
  ],
  [
    'upstreams: { a.example: { urls: ["a.example"] } }',
    'upstreams."a.example".urls[0]: found "a.example"; accepted: a URL such as',
  ],
  [
    'upstreams: { a.example: { urls: ["http://a/?x=1"] } }',
    'upstreams."a.example".urls[0]: found "http://a/?[hidden]"; accepted: a URL without a query',
  ],
  [
    'upstreams: { "https://a": }',
    'upstreams."https://a": the name of an upstream: found "https://a"; accepted: a host name',
  ],
  [
    'upstreams: { a.example: { maxConnections: 0 } }',
    'upstreams."a.example".maxConnections: found 0; accepted: a whole number from 1 to 65535',
  ],
  [
    'upstreams: { a.example: { rateLimitFloor: -1 } }',
    'upstreams."a.example".rateLimitFloor: found -1; accepted: a whole number from 0 to 1000000000',
  ],
  [
    'upstreams: { a.example: { repositories: { deny: [Team/*] } } }',
    'upstreams."a.example".repositories.deny[0]: found "Team/*"; accepted: a pattern',
  ],
  ['upstreams: { a.example: { tags: { match: x } } }', 'upstreams."a.example".tags: accepted: a list'],
  ['upstreams: { a.example: { tags: [{ tagTtl: 1d }] } }', 'upstreams."a.example".tags[0].match is missing'],
  [
    'upstreams: { a.example: { tags: [{ match: "v*", tagTTl: 1d }] } }',
    'unknown key "tagTTl" in upstreams."a.example".tags[0]; did you mean "tagTtl"?',
  ],
  [
    'upstreams: { a.example: { tags: [{ match: 22.04 }] } }',
    'upstreams."a.example".tags[0].match: found 22.04; accepted: a pattern of tags, such as v*.*.* or latest (a number needs quotes)',
  ],
  [
    'upstreams: { a.example: { tags: [{ match: "v*", repositories: [] }] } }',
    'upstreams."a.example".tags[0].repositories: found an empty list',
  ],
  [
    'upstreams: { a.example: { tags: [{ match: "v*", staleWhileRevalidate: soon }] } }',
    'upstreams."a.example".tags[0].staleWhileRevalidate: found "soon"; accepted: a duration',
  ],
  [
    'upstreams: { a.example: { tls: { certFile: a.pem } } }',
    'upstreams."a.example".tls: certFile and keyFile go together',
  ],
  [
    'upstreams: { a.example: { auth: } }',
    'upstreams."a.example".auth: accepted: exactly one of password, passwordFile, passwordEnv, dockerConfig',
  ],
  [
    'upstreams: { a.example: { auth: { password: x, passwordEnv: Y, username: z } } }',
    'upstreams."a.example".auth: accepted: exactly one of',
  ],
  ['upstreams: { a.example: { auth: { password: x } } }', 'upstreams."a.example".auth.username is missing'],
  [
    'upstreams: { a.example: { auth: { dockerConfig: x, username: y } } }',
    'upstreams."a.example".auth.username: cannot be combined with dockerConfig',
  ],
  [
    'upstreams: { a.example: { auth: { provider: google, username: u, password: x } } }',
    'upstreams."a.example".auth.password: cannot be combined with provider: google',
  ],
  [
    'upstreams: { a.example: { auth: { provider: ecr, username: u } } }',
    'upstreams."a.example".auth: accepted with provider: ecr: an access key as username and one of password',
  ],
  [
    'upstreams: { a.example: { auth: { provider: github } } }',
    'upstreams."a.example".auth: accepted with provider: github: exactly one of password',
  ],
  [
    'upstreams: { a.example: { auth: { provider: acr, helper: x } } }',
    'upstreams."a.example".auth.helper: cannot be combined with provider: acr',
  ],
  [
    'upstreams: { a.example: { auth: { username: u, password: p, region: eu-west-1 } } }',
    'upstreams."a.example".auth.region: requires provider: ecr',
  ],
  [
    'upstreams: { a.example: { auth: { helper: x, kubeletArgs: [y] } } }',
    'upstreams."a.example".auth.kubeletArgs: requires kubeletProvider',
  ],
  [
    'upstreams: { a.example: { auth: { helper: ../x } } }',
    'upstreams."a.example".auth.helper: accepted: the name of a credential helper',
  ],
  [
    'upstreams: { a.example: { additionalAuth: [{ helper: x }] } }',
    'upstreams."a.example".additionalAuth: requires auth',
  ],
  [
    'defaultUpstream: docker.example',
    'defaultUpstream: "docker.example" is not in the table of upstreams; accepted: null, or one of docker.io, ghcr.io',
  ],
  ['- listen', 'a configuration is a mapping'],
])('%s is refused with what was found and what is accepted', async (text, problem) => {
  const problems = await problemsOf(text);
  expect(problems).toHaveLength(1);
  expect(problems[0]?.slice(0, `millpond.yaml:1: ${problem}`.length)).toBe(`millpond.yaml:1: ${problem}`);
});

test.each([
  [
    'an alias',
    'upstreams:\n  a.example:\n  b.example: { aliases: [A.example] }\n',
    'upstreams."b.example": "a.example" already belongs to the upstream a.example',
  ],
  [
    'a host',
    'upstreams:\n  a.example: { hosts: [m.example] }\n  b.example: { hosts: [m.example] }\n',
    'upstreams."b.example": "m.example" already belongs to the upstream a.example',
  ],
  [
    'a built-in alias',
    'upstreams:\n  docker.io:\n  index.docker.io:\n',
    'upstreams."index.docker.io": "index.docker.io" already belongs to the upstream docker.io',
  ],
])('two upstreams cannot share %s', async (_, text, problem) => {
  expect(await problemsOf(text)).toEqual([`millpond.yaml:3: ${problem}; names, aliases and hosts must be unique`]);
});

test('one upstream may be written only once, whatever the case', async () => {
  const problems = await problemsOf('upstreams:\n  ghcr.io:\n  GHCR.io:\n');
  expect(problems[0]).toContain('upstreams."ghcr.io": this upstream is in the table twice');
});

test('every problem is reported, each on its own line', async () => {
  expect(await problemsOf('ofline: true\ncache:\n  tagTtl: soon\nlog:\n  level: loud\n')).toEqual([
    'millpond.yaml:1: unknown key "ofline"; did you mean "offline"?',
    'millpond.yaml:3: cache.tagTtl: found "soon"; accepted: a duration with its unit, such as 10s or 30d (ms, s, m, h, d)',
    'millpond.yaml:5: log.level: found "loud"; accepted: trace, debug, info, warn, error, fatal, silent',
  ]);
});

test.each([
  ['listen: :1\nlisten: :2\n', 'millpond.yaml:2: this key is written twice'],
  ['cache:\n\tdir: x\n', 'millpond.yaml:2: a tab in the indentation; YAML takes spaces only'],
  ['cache: { dir: x\n', 'millpond.yaml:2: wrong indentation, or a bracket that is not closed'],
  ['cache: { dir: "x }\n', 'a character is missing'],
  ['cache: &loop { dir: *loop }', 'millpond.yaml:1: cache.dir: found a mapping'],
  ['offline: true\nlisten: *nowhere\n', 'millpond.yaml:2: an alias'],
  ['listen: :1\n---\nlisten: :2\n', 'millpond.yaml:2: a second document begins'],
  ['listen: !secret x\n', 'millpond.yaml:1: an unknown tag'],
])('what is not good YAML is refused with its line: %j', async (text, problem) => {
  expect((await problemsOf(text))[0]).toContain(problem);
});

test('a value from a flag or the environment is refused in its name', async () => {
  await using folder = await ConfigFolder.create();
  await expect(folder.load({ flags: { listen: 'here' } })).rejects.toThrow(
    /^--listen: listen: found "here"; accepted: /,
  );
  await expect(folder.load({ environment: { MILLPOND_LOG_LEVEL: 'loud' } })).rejects.toThrow(
    /^MILLPOND_LOG_LEVEL: log\.level: found "loud"/,
  );
});

test('a file that was named must be there, one that was not need not', async () => {
  await using folder = await ConfigFolder.create();
  const refusal = 'gone.yaml: the configuration file cannot be read: there is no such file';
  await expect(folder.load({ flags: { config: 'gone.yaml' } })).rejects.toThrow(refusal);
  await expect(folder.load({ environment: { MILLPOND_CONFIG: 'gone.yaml' } })).rejects.toThrow(refusal);
  await expect(folder.load({ flags: { config: '.' } })).rejects.toThrow('it is a folder');
});

test.each([
  'upstreams: { a.example: { auth: { username: u, password: 190812345 } } }',
  'upstreams: { a.example: { auth: { username: u, password: [s190812345] } } }',
  'upstreams: { a.example: { urls: ["https://u:s190812345@a.example"] } }',
  'upstreams: { a.example: { urls: ["https://u:s1908/12345 x@a.example"] } }',
  'upstreams: { a.example: { urls: ["https://a.example/?token=s190812345"] } }',
  'upstreams: { a.example: { urls: ["ftp://a.example/#s190812345"] } }',
  'upstreams: { a.example: { aliases: ["u:s190812345@a.example"] } }',
  'upstreams: { "https://u:s190812345@a.example": {} }',
  '"redis://u:s190812345@a.example:1": x',
  'redis: { url: "u:s190812345@a.example" }',
  'auth: { issuers: [{ issuer: "https://u:s190812345@a.example", audience: a }] }',
  'auth: { issuers: [{ issuer: "https://a.example/?key=s190812345", audience: a }] }',
  'upstreams: { a.example: { auth: { username: u, password: "s190812345"x } } }',
  'upstreams: { a.example: { auth: { username: u, password: s190812345: x } } }',
  'upstreams: { a.example: { auth: { username: u, password: *s190812345 } } }',
])('no message shows a secret: %s', async (text) => {
  const problems = await problemsOf(text);
  expect(problems).not.toEqual([]);
  expect(problems.join('\n')).not.toContain('1908');
});

test('a loaded secret is shown only on request', async () => {
  const { config } = await loadText('upstreams: { a.example: { auth: { username: u, password: s3cret } } }');
  const auth = config.upstreams[0]?.auth;
  expect(inspect(auth, { depth: 9, showHidden: true })).not.toContain('s3cret');
  expect(JSON.stringify(config)).not.toContain('s3cret');
  expect(String(auth?.password)).toBe('[hidden]');
});

test('a word that is like none has no nearest', () => {
  expect(nearestWord('xyz', ['listen', 'cache'])).toBeUndefined();
  expect(nearestWord('upstrems', ['upstreams', 'timeouts'])).toBe('upstreams');
  expect(nearestWord('ulrs', ['urls', 'auth'])).toBe('urls');
});

test.each([
  'upstreams: { a.example: { auth: { username: u, password: "[hidden]" } } }',
  'redis: { url: "redis://:[hidden]@127.0.0.1:6379" }\ncluster: { secretFile: s }',
])('what "config show" prints in place of a password is not taken for one: %s', async (text) => {
  expect(await problemsOf(text)).toEqual([expect.stringContaining('found [hidden], which "config show" prints')]);
});
