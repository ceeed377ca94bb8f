import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import { isRepository } from '../../src/oci/reference.ts';
import { repositoryFilter } from '../../src/upstream/repository-rules.ts';
import { selectUpstream } from '../../src/upstream/selection.ts';
import { UpstreamTable } from '../../src/upstream/table.ts';
import type { Upstream } from '../../src/upstream/upstream.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const digest = `sha256:${'a'.repeat(64)}`;

function upstream(name: string, more: Partial<Upstream> = {}): Upstream {
  return {
    name,
    aliases: [],
    hosts: [],
    maxConnections: 32,
    connectionsPerBlob: 1,
    answerMs: 9_000,
    freshness: { tagTtlMs: 0, staleIfErrorMs: 0, negativeTtlMs: 0 },
    fingerprint: () => Promise.resolve(''),
    allows: () => true,
    isSparing: false,
    rateLimit: undefined,
    isAvailableFor: () => true,
    isAvailable: true,
    status: () => ({ endpoints: [] }),
    get client(): never {
      throw new Error('choosing an upstream asks it nothing');
    },
    ...more,
  };
}

const upstreams = [
  upstream('docker.io', {
    aliases: ['index.docker.io', 'registry-1.docker.io'],
    hosts: ['docker.mirror.example'],
    allows: repositoryFilter({ deny: ['secret/**'] }),
  }),
  upstream('quay.io', { hosts: ['quay.mirror.example:5000'] }),
  upstream('reg.example:5443'),
  upstream('[::1]:5000'),
  upstream('team', { aliases: ['localhost:5000'] }),
];
const table = new UpstreamTable(upstreams, { defaultName: 'docker.io' });
const quayFirst = new UpstreamTable(upstreams, { defaultName: 'quay.io' });

interface Request {
  name?: string;
  ns?: string[];
  ref?: string[];
  host?: string;
}

function select(request: Request, among = table) {
  const { name = 'library/ubuntu', ns = [], ref = [], host } = request;
  const selection = selectUpstream(among, { name, nsValues: ns, refNameValues: ref, host });
  return { ...selection, upstream: selection.upstream.name };
}

function refusal(request: Request, among = table): RegistryError {
  try {
    select(request, among);
  } catch (error) {
    if (error instanceof RegistryError) return error;
    throw error;
  }
  throw new Error('the request was not refused');
}

test.each<[string, Request, object]>([
  [
    'a reference name',
    { ref: ['quay.io/library/ubuntu'] },
    { upstream: 'quay.io', repository: 'library/ubuntu', namedBy: 'ref-name' },
  ],
  [
    'a reference name that is a host alone',
    { ref: ['quay.io'], name: 'a/b' },
    { upstream: 'quay.io', repository: 'a/b', namedBy: 'ref-name' },
  ],
  [
    'ns',
    { ns: ['quay.io'], name: 'a/b' },
    { upstream: 'quay.io', repository: 'a/b', namedBy: 'ns', namespace: 'quay.io' },
  ],
  ['ns with a port', { ns: ['reg.example:5443'], name: 'a' }, { upstream: 'reg.example:5443', repository: 'a' }],
  [
    'ns with a percent-encoded port',
    { ns: ['reg.example%3A5443'], name: 'a' },
    { upstream: 'reg.example:5443', namespace: 'reg.example%3A5443' },
  ],
  ['ns with an IPv6 address', { ns: ['[::1]:5000'], name: 'a' }, { upstream: '[::1]:5000', repository: 'a' }],
  ['ns with percent-encoded brackets', { ns: ['%5B%3A%3A1%5D%3A5000'], name: 'a' }, { upstream: '[::1]:5000' }],
  ['ns in capitals', { ns: ['Quay.IO'], name: 'a' }, { upstream: 'quay.io', namespace: 'Quay.IO' }],
  ['ns as regctl sends it', { ns: ['registry-1.docker.io'] }, { upstream: 'docker.io', repository: 'library/ubuntu' }],
  [
    'the Host',
    { host: 'docker.mirror.example', name: 'a/b' },
    { upstream: 'docker.io', repository: 'a/b', namedBy: 'host' },
  ],
  [
    'the Host with a port',
    { host: 'Docker.mirror.example:443', name: 'a/b' },
    { upstream: 'docker.io', namedBy: 'host' },
  ],
  [
    'a Host listed with its port',
    { host: 'quay.mirror.example:5000', name: 'a/b' },
    { upstream: 'quay.io', namedBy: 'host' },
  ],
  [
    'a path prefix',
    { name: 'quay.io/a/b' },
    { upstream: 'quay.io', repository: 'a/b', namedBy: 'path', prefix: 'quay.io' },
  ],
  [
    'an alias as path prefix',
    { name: 'index.docker.io/a/b' },
    { upstream: 'docker.io', repository: 'a/b', prefix: 'index.docker.io' },
  ],
  [
    'a path prefix with an encoded port',
    { name: 'localhost%3A5000/a' },
    { upstream: 'team', repository: 'a', prefix: 'localhost%3A5000' },
  ],
  ['a path prefix that is an IPv6 address', { name: '[::1]:5000/a' }, { upstream: '[::1]:5000', repository: 'a' }],
  [
    'the default',
    { name: 'a/b' },
    { upstream: 'docker.io', repository: 'a/b', namedBy: 'default', prefix: '', namespace: undefined },
  ],
])('%s names the upstream', (_, request, expected) => {
  expect(select(request)).toMatchObject(expected);
});

test.each<[string, Request, object]>([
  [
    'the reference name comes before Host and path',
    { ref: ['quay.io'], host: 'docker.mirror.example', name: 'team/a' },
    { upstream: 'quay.io', repository: 'team/a' },
  ],
  [
    'ns comes before Host',
    { ns: ['quay.io'], host: 'docker.mirror.example', name: 'a' },
    { upstream: 'quay.io', namedBy: 'ns' },
  ],
  [
    'Host comes before the path, whose first part belongs to the repository then',
    { host: 'docker.mirror.example', name: 'quay.io/a' },
    { upstream: 'docker.io', repository: 'quay.io/a' },
  ],
  [
    'a Host that is listed nowhere says nothing',
    { host: '127.0.0.1:5000', name: 'quay.io/a' },
    { upstream: 'quay.io', namedBy: 'path' },
  ],
  [
    'a Host on another port than the listed one says nothing',
    { host: 'quay.mirror.example:5001', name: 'a/b' },
    { upstream: 'docker.io', namedBy: 'default' },
  ],
  [
    'a prefix that names the same upstream as ns is stripped',
    { ns: ['docker.io'], name: 'docker.io/library/x' },
    { repository: 'library/x', prefix: 'docker.io' },
  ],
  [
    'an alias that names the same upstream as ns is stripped',
    { ns: ['docker.io'], name: 'index.docker.io/library/x' },
    { repository: 'library/x', prefix: 'index.docker.io' },
  ],
  ['a prefix is stripped once', { ns: ['docker.io'], name: 'docker.io/docker.io/x' }, { repository: 'docker.io/x' }],
  [
    'a prefix that names the same upstream as the reference name is stripped',
    { ref: ['docker.io/library/x:1'], name: 'docker.io/library/x' },
    { repository: 'library/x', prefix: 'docker.io' },
  ],
  [
    'another first part belongs to the repository',
    { ns: ['docker.io'], name: 'quay.io/x' },
    { upstream: 'docker.io', repository: 'quay.io/x', prefix: '' },
  ],
  [
    'a repository that is called like its upstream stays whole when nothing follows',
    { ns: ['docker.io'], name: 'docker.io' },
    { repository: 'library/docker.io', prefix: '' },
  ],
  [
    'the reference name tells a prefix from a repository',
    { ref: ['docker.io/docker.io/x'], name: 'docker.io/x' },
    { repository: 'docker.io/x', prefix: '' },
  ],
  ['one part gets library/ on docker.io', { name: 'ubuntu' }, { repository: 'library/ubuntu' }],
  [
    'one part gets library/ after a prefix',
    { name: 'docker.io/ubuntu' },
    { repository: 'library/ubuntu', prefix: 'docker.io' },
  ],
  ['library/ is added nowhere else', { name: 'quay.io/ubuntu' }, { repository: 'ubuntu' }],
  [
    'a parameter may say the same twice',
    { ns: ['docker.io', 'index.docker.io'], ref: ['docker.io', 'registry-1.docker.io/library/ubuntu'] },
    { upstream: 'docker.io', repository: 'library/ubuntu', namespace: 'docker.io' },
  ],
  [
    'a tag and a digest of a reference name select nothing',
    { ref: [`docker.io/ubuntu:22.04@${digest}`, 'docker.io/library/ubuntu:24.04'] },
    { repository: 'library/ubuntu' },
  ],
  [
    'a short name as reference name means docker.io',
    { ref: ['ubuntu:22.04'] },
    { upstream: 'docker.io', repository: 'library/ubuntu' },
  ],
  [
    'a short name of two parts means docker.io',
    { ref: ['bitnami/redis'], name: 'bitnami/redis' },
    { upstream: 'docker.io', repository: 'bitnami/redis' },
  ],
  [
    'a reference name may carry a port',
    { ref: ['reg.example:5443/a:1'], name: 'a' },
    { upstream: 'reg.example:5443', repository: 'a' },
  ],
  ['a reference name may be a host with a port alone', { ref: ['[::1]:5000'], name: 'a' }, { upstream: '[::1]:5000' }],
])('%s', (_, request, expected) => {
  expect(select(request)).toMatchObject(expected);
});

test.each<[string, Request, string[]]>([
  [
    'ns and a reference name of different upstreams',
    { ns: ['quay.io'], ref: ['docker.io/library/ubuntu'] },
    ['ns "quay.io"', 'docker.io/library/ubuntu'],
  ],
  ['ns twice with different upstreams', { ns: ['quay.io', 'docker.io'] }, ['ns "quay.io"', 'ns "docker.io"']],
  ['ns twice, one of them unknown', { ns: ['docker.io', 'evil.example'] }, ['docker.io', 'evil.example']],
  ['two reference names of different upstreams', { ref: ['quay.io', 'docker.io'] }, ['quay.io', 'docker.io']],
  [
    'two reference names of different repositories',
    { ref: ['quay.io/a', 'quay.io/b'], name: 'a' },
    ['quay.io/a', 'quay.io/b'],
  ],
  [
    'a reference name of another repository than the path',
    { ref: ['docker.io/library/debian'] },
    ['docker.io/library/debian', 'library/ubuntu'],
  ],
  ['an empty ns', { ns: [''] }, ['ns is empty']],
  ['an empty reference name', { ref: [' '] }, ['reference name is empty']],
  ['a reference name without a repository after its slash', { ref: ['docker.io/'] }, ['docker.io/']],
  ['a reference name with a malformed tag', { ref: ['docker.io/a:-'], name: 'a' }, ['docker.io/a:-']],
  ['a reference name with a malformed digest', { ref: ['docker.io/a@sha256:1'], name: 'a' }, ['sha256:1']],
  ['a path that names an upstream and nothing of it', { name: 'quay.io' }, ['quay.io', 'no repository']],
  [
    'a port in what is left as repository',
    { ns: ['docker.io'], name: 'other.example:5000/a' },
    ['not a repository name'],
  ],
])('%s is refused with 400 NAME_INVALID that says why', (_, request, words) => {
  const error = refusal(request);
  expect(error).toMatchObject({ code: 'NAME_INVALID', status: 400 });
  for (const word of words) expect(error.message).toContain(word);
});

test.each<[string, Request]>([
  ['an unknown ns', { ns: ['evil.example'] }],
  ['an unknown ns that is given twice', { ns: ['evil.example', 'EVIL.example'] }],
  ['an ns with a scheme', { ns: ['http://docker.io'] }],
  ['an ns with a broken escape', { ns: ['docker.io%zz'] }],
  ['a known name on another port', { ns: ['docker.io:5000'] }],
  ['an unknown host as reference name', { ref: ['evil.example:5000'] }],
  ['an unknown host in a reference name', { ref: ['evil.example/library/ubuntu'] }],
  ['a first part that looks like a host', { name: 'evil.example/library/ubuntu' }],
  ['a first part with a port', { name: 'evil:5000/library/ubuntu' }],
  ['a first part with an encoded port', { name: 'evil%3a5000/library/ubuntu' }],
  ['localhost as first part', { name: 'localhost/library/ubuntu' }],
])('%s is 404 NAME_UNKNOWN that says it is never contacted', (_, request) => {
  expect(refusal(request)).toMatchObject({
    code: 'NAME_UNKNOWN',
    status: 404,
    message: expect.stringMatching(/not a configured upstream.*never contacted/) as string,
  });
});

test('with another default than docker.io, a first part with a dot is a part of the repository', () => {
  expect(select({ name: 'my.team/app' }, quayFirst)).toMatchObject({ upstream: 'quay.io', repository: 'my.team/app' });
  expect(refusal({ name: 'my.team:5000/app' }, quayFirst)).toMatchObject({ code: 'NAME_INVALID' });
});

test('without a default, a request has to name its upstream', () => {
  expect(refusal({ name: 'a/b' }, new UpstreamTable(upstreams))).toMatchObject({ code: 'NAME_UNKNOWN', status: 404 });
});

test('a repository that the operator does not allow is 403 DENIED', () => {
  expect(refusal({ name: 'secret/plans' })).toMatchObject({ code: 'DENIED', status: 403 });
  expect(refusal({ name: 'plans', ref: ['docker.io/secret/plans'] })).toMatchObject({ code: 'NAME_INVALID' });
});

test('/v2/ needs no repository and is held to the same table', () => {
  const root = { name: undefined, nsValues: ['index.docker.io'], refNameValues: [], host: undefined };
  expect(selectUpstream(table, root)).toMatchObject({ upstream: { name: 'docker.io' }, namespace: 'index.docker.io' });
  expect(() => selectUpstream(table, { ...root, nsValues: ['evil.example'] })).toThrow(/not a configured upstream/);
});

test('two upstreams cannot share a name, and the default has to be one of them', () => {
  const twice = [upstream('a.example', { aliases: ['b.example'] }), upstream('B.example')];
  expect(() => new UpstreamTable(twice)).toThrow(/share the name/);
  expect(() => new UpstreamTable(upstreams, { defaultName: 'ghcr.io' })).toThrow(/ghcr\.io/);
});

test('whatever a request says, its upstream is one of the table and its repository a valid name', () => {
  const word = fc.oneof(
    fc.constantFrom(
      'docker.io',
      'index.docker.io',
      'quay.io',
      'reg.example:5443',
      'reg.example%3A5443',
      '[::1]:5000',
      'team',
    ),
    fc.constantFrom(
      'localhost',
      'evil.example',
      'library',
      'ubuntu',
      'Ubuntu',
      'a:1',
      `x@${digest}`,
      '..',
      '',
      '%2e%2e',
    ),
    fc.string({ maxLength: 12 }),
  );
  const path = fc.array(word, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const values = fc.array(fc.oneof(word, path), { maxLength: 2 });
  let accepted = 0;
  fc.assert(
    fc.property(path, values, values, fc.option(word, { nil: undefined }), (name, nsValues, refNameValues, host) => {
      try {
        const selection = selectUpstream(table, { name, nsValues, refNameValues, host });
        accepted += 1;
        expect(upstreams.includes(selection.upstream)).toBe(true);
        expect(isRepository(selection.repository)).toBe(true);
        expect(selection.prefix === '' || name.startsWith(`${selection.prefix}/`)).toBe(true);
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
      }
    }),
    { numRuns: 2000 },
  );
  expect(accepted).toBeGreaterThan(0);
});
