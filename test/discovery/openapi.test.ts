import { expect, test } from 'vitest';
import { pushImage, send, startHostedSite } from '../hosted/support.ts';
import { localImage } from '../support/images.ts';
import { startTestSite } from '../support/site.ts';

const image = localImage({ label: 'one' });

interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId?: string }>>>>;
}

test('the OpenAPI document has every endpoint that is offered, and every one of them answers', async () => {
  await using site = await startHostedSite();
  await pushImage(site, 'local/app', image, '1');
  const served = await send(site, ['GET', '/v2/_millpond/openapi']);
  expect(served).toMatchObject({
    status: 200,
    headers: { 'content-type': 'application/vnd.oai.openapi+json;version=3.1' },
  });
  const document = JSON.parse(served.body.toString()) as Document;
  expect(document.openapi).toBe('3.1.0');
  const values: Readonly<Record<string, string>> = {
    name: 'local/app',
    reference: '1',
    digest: image.digest,
    upload: '0123456789abcdef0123456789abcdef',
  };
  const filled = (path: string) => path.replaceAll(/\{(\w+)\}/g, (_, name: string) => values[name] ?? 'x');

  // What the document names answers, by its methods and by no others.
  const methods = ['get', 'head', 'put', 'post', 'patch', 'delete'];
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const method of methods) {
      const target = filled(path);
      const answer = await send(site, [method.toUpperCase(), target]);
      const isOffered = operations[method]?.operationId !== undefined;
      expect({ target, method, isOffered: answer.status !== 405 }).toEqual({ target, method, isOffered });
      // The page of the extension itself has the word.
      if (isOffered && answer.status >= 400)
        expect(answer.body.toString(), target).not.toContain('"code":"EXTENSION_UNKNOWN"');
    }
  }

  // What discovery lists is in the document.
  for (const [base, prefix] of [
    ['/v2', '/v2'],
    ['/v2/local/app', '/v2/{name}'],
  ] as const) {
    const { body } = await send(site, ['GET', `${base}/_oci/ext/discover`]);
    const { extensions } = JSON.parse(body.toString()) as { extensions: { endpoints: string[] }[] };
    const listed = extensions
      .flatMap(({ endpoints }) => endpoints)
      .map((endpoint) => endpoint.replace(base, prefix).replaceAll('<', '{').replaceAll('>', '}'))
      .filter((endpoint) => !endpoint.endsWith('/_oci/ext/discover'));
    expect(listed.length).toBeGreaterThan(1);
    expect(listed.filter((endpoint) => document.paths[endpoint] === undefined)).toEqual([]);
  }
});

test('the OpenAPI document has the endpoints of the distribution-spec, those for pushes where they are taken', async () => {
  const methodsOf = ({ paths }: Document): Record<string, string[]> =>
    Object.fromEntries(
      Object.entries(paths)
        .filter(([path]) => !path.includes('/_millpond/') && !path.includes('/_oci/'))
        .map(([path, operations]) => [path, Object.keys(operations).filter((name) => name !== 'parameters')]),
    );
  const read = ['get', 'head'];
  const pulls = {
    '/v2/': read,
    '/v2/_catalog': read,
    '/v2/{name}/tags/list': read,
    '/v2/{name}/manifests/{reference}': read,
    '/v2/{name}/blobs/{digest}': read,
    '/v2/{name}/referrers/{digest}': read,
  };
  await using hosting = await startHostedSite();
  const whole = JSON.parse((await send(hosting, ['GET', '/v2/_millpond/openapi'])).body.toString()) as Document;
  expect(methodsOf(whole)).toEqual({
    ...pulls,
    '/v2/{name}/manifests/{reference}': [...read, 'put', 'delete'],
    '/v2/{name}/blobs/{digest}': [...read, 'delete'],
    '/v2/{name}/blobs/uploads/': ['post'],
    '/v2/{name}/blobs/uploads/{upload}': [...read, 'patch', 'put', 'delete'],
  });
  const ids = Object.values(whole.paths).flatMap((operations) =>
    Object.values(operations).flatMap(({ operationId }) => (operationId === undefined ? [] : [operationId])),
  );
  expect(new Set(ids).size).toBe(ids.length);
  await using pulling = await startTestSite({ upstreams: { 'registry.test': { origin: 'http://127.0.0.1:1' } } });
  const own = JSON.parse((await send(pulling, ['GET', '/v2/_millpond/openapi'])).body.toString()) as Document;
  expect(methodsOf(own)).toEqual(pulls);
});
