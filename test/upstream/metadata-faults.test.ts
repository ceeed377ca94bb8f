import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import type { CredentialOptions } from '../../src/upstream/credentials/options.ts';
import { failureOf, readCredential } from './support.ts';

const google = { kind: 'google', credentialsFile: undefined } as const;
const clouds: readonly [string, CredentialOptions, (host: string) => Record<string, string>][] = [
  ['Google', google, (host) => ({ GCE_METADATA_HOST: host })],
  [
    'Azure',
    { kind: 'acr', clientId: undefined, tenantId: undefined },
    (host) => ({ AZURE_POD_IDENTITY_AUTHORITY_HOST: `http://${host}` }),
  ],
  [
    'Amazon',
    { kind: 'ecr', isPublic: false, region: 'eu-west-1', keys: undefined },
    (host) => ({ AWS_EC2_METADATA_SERVICE_ENDPOINT: `http://${host}` }),
  ],
];

async function startServer(listener: RequestListener) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    listener(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

const page = '<html><body>canary: log in</body></html>';

const faults = [
  ['500', /answered 500/],
  ['a page', /answered|has no role/],
  ['a redirect', /answered 302/],
  ['silence', /did not answer at http:\/\/127\.0\.0\.1:\d+ in time/],
  ['half an answer', /did not answer at http:\/\/127\.0\.0\.1:\d+ in time/],
] as const;

test.concurrent.each(
  clouds.flatMap(([name, options, environment]) =>
    faults.map(([kind, message]) => [name, kind, message, options, environment] as const),
  ),
)('a metadata service of %s that gives %s is named in the error, and nothing of its answer is', async (...given) => {
  const [, kind, message, options, environmentOf] = given;
  await using elsewhere = await startServer((_, response) =>
    response.end('{"access_token":"canary","expires_in":9999}'),
  );
  await using metadata = await startServer((_, response) => {
    response.setHeader('metadata-flavor', 'Google');
    if (kind === '500') response.writeHead(500).end(page);
    if (kind === 'a page') response.end(page);
    if (kind === 'a redirect') response.writeHead(302, { location: `http://${elsewhere.host}/canary` }).end();
    if (kind === 'half an answer')
      response.writeHead(200, { 'content-length': '1000' }).write('{"access_token":"canary');
  });
  const context = { upstream: 'x', host: 'reg.example', environment: environmentOf(metadata.host) };
  const error = await failureOf(readCredential(options, context));
  expect(error).toMatchObject({ reason: 'no-credentials', message: expect.stringMatching(message) as string });
  expect(`${error.message} ${String(error.cause)}`).not.toContain('canary');
  expect(elsewhere.asked).toEqual([]);
  // Azure is asked for a token for each of two audiences, Amazon for the role after the token.
  expect(metadata.asked.length).toBeLessThanOrEqual(2);
});
