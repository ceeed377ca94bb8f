import { expect, test } from 'vitest';
import { listSettings, showJson, showYaml } from '../../src/config/show.ts';
import { loadText } from './sources.ts';

const text = `listen: "[::1]:5000"
tls: { certFile: /a b.pem, keyFile: "/it's.pem" }
defaultUpstream: null
cache:
  dir: /var/lib/millpond
  tagTtl: 90s
offline: true
upstreams:
  docker.io:
    auth: { username: "on", passwordEnv: HUB }
    tagTtl: 1h
    tags:
      - match: "v*.*.*"
        tagTtl: 365d
      - { match: edge, repositories: ["library/**", x], staleIfError: 0 }
  reg.example:5443:
    urls: ["http://10.0.0.5:5000", "https://reg.example/a%20b"]
    hosts: ["[::1]:5000"]
    repositories: { allow: ["**/x*"] }
`;

test('what is shown, used as a file, is the same configuration', async () => {
  const loaded = await loadText(text);
  const again = await loadText(showYaml(listSettings(loaded)));
  expect(again.config).toEqual(loaded.config);
});

test('what is shown of the defaults, used as a file, is the same configuration', async () => {
  const loaded = await loadText('cache: { dir: /data }');
  expect((await loadText(showYaml(listSettings(loaded)))).config).toEqual(loaded.config);
});

test('each value says where it came from, an inherited one where that was written', async () => {
  const origins = new Map(listSettings(await loadText(text)).map(({ path, origin }) => [path.join(' '), origin]));
  expect(origins.get('listen')).toBe('millpond.yaml:1');
  expect(origins.get('cache negativeTtl')).toBe('default');
  expect(origins.get('upstreams docker.io tagTtl')).toBe('millpond.yaml:11');
  expect(origins.get('upstreams docker.io tags 0 match')).toBe('millpond.yaml:13');
  expect(origins.get('upstreams docker.io tags 0 tagTtl')).toBe('millpond.yaml:14');
  expect(origins.get('upstreams docker.io tags 1 tagTtl')).toBe('millpond.yaml:11');
  expect(origins.get('upstreams docker.io tags 1 staleWhileRevalidate')).toBe('default');
  expect(origins.get('upstreams reg.example:5443 tagTtl')).toBe('millpond.yaml:6');
  expect(origins.get('upstreams docker.io auth username')).toBe('millpond.yaml:10');
  expect(origins.get('upstreams reg.example:5443 repositories deny')).toBe('default');
});

test('a list of rules is written as a list', async () => {
  const yaml = showYaml(listSettings(await loadText(text)));
  expect(yaml).toContain(
    '    tags:\n      - match: "v*.*.*" # millpond.yaml:13\n        tagTtl: 365d # millpond.yaml:14\n',
  );
});

test('a password is shown as hidden', async () => {
  const settings = listSettings(
    await loadText('upstreams: { a.example: { auth: { username: u, password: s3cret } } }'),
  );
  expect(showYaml(settings)).toContain('      password: "[hidden]" # millpond.yaml:1\n');
  expect(showYaml(settings) + showJson(settings, 'millpond.yaml')).not.toContain('s3cret');
});

test('the JSON form is nested as a file is and lists the origins', async () => {
  const json = JSON.parse(showJson(listSettings(await loadText(text)), 'millpond.yaml'));
  expect(json.file).toBe('millpond.yaml');
  expect(json.config.upstreams['docker.io'].tagTtl).toBe('1h');
  expect(json.config.upstreams['docker.io'].tags[1]).toMatchObject({
    match: 'edge',
    repositories: ['library/**', 'x'],
  });
  expect(json.origins).toContainEqual({ path: ['cache', 'tagTtl'], origin: 'millpond.yaml:6' });
});
