import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { accept, never, upstreamAt } from './support.ts';

const signal = never();
const manifest = Buffer.from('{"schemaVersion":2,"config":{},"layers":[]}');
const credentials = { kind: 'inline', username: 'robot', password: 'open:sesame' } as const;

interface Script {
  /** The challenges of a 401; several are sent as headers of their own. */
  readonly challenge?: (origin: string) => string | string[];
  readonly token?: (response: ServerResponse, request: IncomingMessage, origin: string) => unknown;
  /** Whether a scope is given the token that is right. */
  readonly isScope?: (scopes: readonly string[]) => boolean;
}

/** A registry that gives its manifest for the token `good`. */
async function startTokenRegistry({ challenge, token, isScope = () => true }: Script) {
  const scopes: string[] = [];
  let tokens = 0;
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '', origin);
    if (url.pathname.startsWith('/token')) {
      tokens += 1;
      scopes.push(...url.searchParams.getAll('scope'));
      if (token) return token(response, request, origin);
      return response.end(JSON.stringify({ token: isScope(url.searchParams.getAll('scope')) ? 'good' : 'bad' }));
    }
    if (request.headers.authorization === 'Bearer good') {
      return response.writeHead(200, { 'content-type': accept[0] }).end(manifest);
    }
    const challenges = challenge?.(origin) ?? `Bearer realm="${origin}/token",service="reg"`;
    return response.writeHead(401, { 'www-authenticate': challenges }).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    scopes,
    tokens: () => tokens,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function pullFrom(origin: string, options: Parameters<typeof upstreamAt>[1] = {}) {
  using upstream = upstreamAt(origin, options);
  return (await upstream.client.getManifest('a', 'v1', { accept, signal })).bytes.equals(manifest);
}

describe('the answer of a token service', () => {
  const json = (fields: object) => Buffer.from(JSON.stringify(fields));
  const past = '2001-01-01T00:00:00Z';

  test.each<[string, Buffer | string, Record<string, string>]>([
    ['with a byte order mark', `\uFEFF{"token":"good"}`, {}],
    ['with access_token alone', json({ access_token: 'good' }), {}],
    ['with an empty token beside access_token', json({ token: '', access_token: 'good' }), {}],
    ['with a token that is null beside access_token', json({ token: null, access_token: 'good' }), {}],
    ['with the same token twice', json({ token: 'good', access_token: 'good' }), {}],
    ['with spaces around the token', json({ token: ' good\n' }), {}],
    ['with a name in capitals', json({ Token: 'good' }), {}],
    ['with another name in capitals', json({ Access_Token: 'good' }), {}],
    ['with expires_in as text', json({ token: 'good', expires_in: '300' }), {}],
    ['with expires_in 0', json({ token: 'good', expires_in: 0 }), {}],
    ['with a negative expires_in', json({ token: 'good', expires_in: -5 }), {}],
    ['with a huge expires_in', '{"token":"good","expires_in":1e400}', {}],
    ['with expires_in that is null', json({ token: 'good', expires_in: null }), {}],
    ['with expires_in that is no number', json({ token: 'good', expires_in: {} }), {}],
    ['issued long ago', json({ token: 'good', issued_at: past }), {}],
    ['issued at no time', json({ token: 'good', issued_at: 'yesterday' }), {}],
    ['as text/plain', json({ token: 'good' }), { 'content-type': 'text/plain' }],
    ['with a charset', json({ token: 'good' }), { 'content-type': 'application/json; charset=UTF-8' }],
    ['with lines around it', `\r\n {"token":"good"} \r\n\r\n`, {}],
    ['with status 203', json({ token: 'good' }), { status: '203' }],
  ])('%s is understood', async (_, body, { status = '200', ...headers }) => {
    await using server = await startTokenRegistry({
      token: (response) => response.writeHead(Number(status), headers).end(body),
    });
    expect(await pullFrom(server.origin)).toBe(true);
  });

  test.each<[string, object, number]>([
    ['expires_in 0', { expires_in: 0 }, 60],
    ['a negative expires_in', { expires_in: -5 }, 60],
    ['no expires_in', {}, 60],
    ['expires_in as text', { expires_in: '300' }, 300],
    ['expires_in with a fraction', { expires_in: 300.5 }, 300],
    // The spec counts from `issued_at`; a clock of ours or of theirs that is wrong must not cost a token for each request.
    ['a time in the past', { expires_in: 300, issued_at: '2001-01-01T00:00:00Z' }, 300],
    ['a time to come', { expires_in: 300, issued_at: '2999-01-01T00:00:00Z' }, 300],
  ])('with %s is used for as long as it may', async (_, fields, seconds) => {
    await using server = await startTokenRegistry({
      token: (response) => response.end(JSON.stringify({ token: 'good', ...fields })),
    });
    let nowMs = 1_000_000_000_000;
    using upstream = upstreamAt(server.origin, { now: () => nowMs });
    const pull = () => upstream.client.getManifest('a', 'v1', { accept, signal });
    await pull();
    // Renewed when four fifths are over.
    nowMs += seconds * 800 - 1;
    await pull();
    expect(server.tokens()).toBe(1);
    nowMs += 1000;
    await pull();
    expect(server.tokens()).toBe(2);
  });

  test.each<[string, string]>([
    ['no token', '{}'],
    ['a token with a line', '{"token":"a\\r\\nb: c"}'],
    ['a token that is an object', '{"token":{}}'],
    ['a list', '[]'],
    ['a page', '<!doctype html>'],
    ['nothing', ''],
  ])('with %s is one that cannot be used', async (_, body) => {
    await using server = await startTokenRegistry({ token: (response) => response.end(body) });
    await expect(pullFrom(server.origin)).rejects.toThrow('without a token');
  });
});

describe('a challenge', () => {
  const bearer = (origin: string, more = '') => `Bearer realm="${origin}/token",service="reg"${more}`;

  test.each<[string, (origin: string) => string | string[]]>([
    ['without spaces after commas', (o) => `Bearer realm="${o}/token",service="reg",scope="repository:a:pull"`],
    ['with many spaces', (o) => `Bearer   realm = "${o}/token" ,  service="reg"`],
    ['without quotation marks', (o) => `Bearer realm=${o}/token,service=reg`],
    ['with single quotation marks', (o) => `Bearer realm='${o}/token',service='reg'`],
    ['in lower case', (o) => `bearer realm="${o}/token",service="reg"`],
    ['in capitals', (o) => `BEARER REALM="${o}/token",SERVICE="reg"`],
    ['without a scope', (o) => bearer(o)],
    ['with an empty scope', (o) => bearer(o, ',scope=""')],
    ['with several scopes', (o) => bearer(o, ',scope="repository:a:pull repository:b:pull"')],
    ['with scope twice', (o) => bearer(o, ',scope="repository:a:pull",scope="repository:b:pull"')],
    ['with an error', (o) => bearer(o, ',error="invalid_token",error_description="a, \\"b\\" = c"')],
    ['after Basic in one header', (o) => `Basic realm="reg", ${bearer(o)}`],
    ['before Basic in one header', (o) => `${bearer(o)}, Basic realm="reg"`],
    ['after Negotiate and NTLM in one header', (o) => `Negotiate, NTLM, ${bearer(o)}`],
    ['after Negotiate with a token', (o) => `Negotiate YII/b==, ${bearer(o)}`],
    ['in a header of its own after Basic', (o) => ['Basic realm="reg"', bearer(o)]],
    ['in a header of its own before Basic', (o) => [bearer(o), 'Basic realm="reg"']],
    ['with a trailing comma', (o) => `${bearer(o)},`],
    ['with a tab', (o) => `Bearer\trealm="${o}/token",\tservice="reg"`],
    ['with a relative realm', () => 'Bearer realm="/token",service="reg"'],
    ['with a realm that has a query', (o) => `Bearer realm="${o}/token?a=b",service="reg"`],
    ['without a service', (o) => `Bearer realm="${o}/token"`],
    ['with separators other than commas', (o) => `Bearer realm="${o}/token"; service="reg"`],
    ['with nothing between parameters', (o) => `Bearer realm="${o}/token" service="reg"`],
  ])('%s is understood', async (_, challenge) => {
    await using server = await startTokenRegistry({ challenge });
    expect(await pullFrom(server.origin)).toBe(true);
    expect(server.scopes).toEqual(['repository:a:pull']);
  });

  test.each<[string, string, string]>([
    ['of another name', 'repository:org/a:pull', 'repository:org/a:pull'],
    ['of more actions', 'repository:org/a:pull,push', 'repository:org/a:pull'],
    ['among others', 'registry:catalog:* repository:org/a:pull', 'repository:org/a:pull'],
    ['after that of the path', 'repository:a:pull repository:org/a:pull', 'repository:org/a:pull'],
  ])('whose scope is the only one that does: %s', async (_, scope, right) => {
    await using server = await startTokenRegistry({
      challenge: (origin) => bearer(origin, `,scope="${scope}"`),
      isScope: (scopes) => scopes.includes(right),
    });
    expect(await pullFrom(server.origin)).toBe(true);
    expect(server.scopes).toEqual(['repository:a:pull', right]);
  });

  test.each<[string, (origin: string) => string]>([
    ['on another host', () => 'http://registry.example.org/token'],
    ['at another port', (o) => `${new URL(o).protocol}//127.0.0.1:1/token`],
    ['of another kind', () => 'ftp://127.0.0.1/token'],
    ['with two slashes', () => '//registry.example.org/token'],
    ['with credentials', (o) => o.replace('://', '://user:secret@')],
    ['with a backslash', () => '/\\registry.example.org/token'],
  ])('with a realm %s gets no credentials', async (_, realm) => {
    await using server = await startTokenRegistry({
      challenge: (origin) => `Bearer realm="${realm(origin)}",service="reg"`,
    });
    await expect(pullFrom(server.origin, { credentials })).rejects.toThrow(/token realm|token service/);
    expect(server.scopes).toEqual([]);
  });
});
