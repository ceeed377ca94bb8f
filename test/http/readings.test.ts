import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readRequest } from '../../src/http/middleware.ts';
import { UpstreamTable } from '../../src/upstream/table.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { upstreamAt } from '../upstream/support.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

test('a reference name that reads "undefined" does not decide what the next client gets', async () => {
  await using hub = await startRegistry();
  await using own = await startRegistry();
  const upstreams = { 'docker.io': hub, undefined: own };
  await using site = await startTestSite({ upstreams });
  const right = hub.addImage('library/app', '1', { layers: ['hub'] });
  const other = own.addImage('library/app', '1', { layers: ['own'] });
  const path = '/v2/library/app/manifests/1';
  expect((await site.get(path, { headers: { 'OCI-REF-NAME': 'undefined' } })).sha256).toBe(other.digest);
  expect((await site.get(path)).sha256).toBe(right.digest);
});

test('what was read for one request is never taken for another that differs in anything', () => {
  using hub = upstreamAt('http://127.0.0.1:9');
  using quay = upstreamAt('http://127.0.0.1:9', { name: 'quay.io', hosts: ['a b', 'a', 'null', 'undefined'] });
  const upstreams = new UpstreamTable([hub, quay], { defaultName: 'docker.io' });
  const options = { upstreams };
  const remembering = readRequest(options);
  const text = fc.constantFrom(undefined, '', 'a', 'b', 'a b', 'undefined', 'null', 'quay.io', '"a"', 'a","b', ' ');
  const path = fc.constantFrom('/v2/', '/v2/a/tags/list', '/v2/b /v2/a/tags/list', '/v2/quay.io/b/tags/list');
  const query = fc.constantFrom('', 'ns=quay.io', 'ns=docker.io', 'n=1?ns=quay.io', '?ns=quay.io');
  fc.assert(
    fc.property(text, text, path, query, (host, refName, asked, parameters) => {
      const read = (middleware: ReturnType<typeof readRequest>): unknown => {
        const exchange = { path: asked, query: parameters, request: undefined, selection: undefined };
        const context = { state: { exchange }, req: { headers: { host, 'oci-ref-name': refName } } };
        try {
          void middleware(context as never, () => Promise.resolve());
        } catch (error) {
          return String(error);
        }
        const { request, selection } = exchange as { request: unknown; selection?: { upstream: { name: string } } };
        return { request, ...(selection && { ...selection, upstream: selection.upstream.name }) };
      };
      expect(read(remembering)).toEqual(read(readRequest(options)));
    }),
    { numRuns: 3000 },
  );
});
