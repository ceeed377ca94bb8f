import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { clients, type Pull } from './client-matrix/clients.ts';
import { type OddRegistry, oddRegistries, repository, startOdd } from './client-matrix/odd-registries.ts';

// What a client can pull from a registry directly, it can pull through the mirror. `MILLPOND_CLIENT_MATRIX=all npx vitest run
// test/e2e/client-matrix.test.ts` tries all registries with all clients.

const isAll = process.env['MILLPOND_CLIENT_MATRIX'] === 'all';
const tried = oddRegistries.filter(({ isShort = false }) => isAll || isShort);

for (const client of clients.filter(({ isLong = false }) => isAll || !isLong)) {
  describeWith(client.requirements, `${client.name}, from a registry`, () => {
    const owned = new AsyncDisposableStack();
    let pull: Pull;
    let count = 0;

    beforeAll(async () => {
      pull = await client.start(owned);
    });
    afterAll(() => owned.disposeAsync());

    /** Pulls an artifact that is nowhere else. @returns why that has failed */
    const attempt = async (odd: OddRegistry, way: 'direct' | 'mirror'): Promise<unknown> => {
      count += 1;
      await using folder = await temporaryDirectory();
      await using registry = await startOdd(odd, client.artifact(`${client.name.replaceAll(' ', '-')}-${count}`));
      const { prefix = '', credentials } = odd;
      const url = prefix === '' ? registry.origin : `${registry.origin}/v2/${prefix.slice(0, -1)}`;
      const upstream = { urls: [url], ...(credentials && { auth: credentials }) };
      await using site = await startTestSite({ upstreams: { 'reg.test': upstream } });
      const place =
        way === 'direct'
          ? { host: registry.host, repository: `${prefix}${repository}`, credentials }
          : { host: new URL(site.origin).host, repository: `reg.test/${repository}` };
      const own = join(folder.path, 'own');
      await mkdir(own);
      return await pull({ ...place, folder: own }).then(
        () => undefined,
        (error: unknown) => error,
      );
    };

    test.each(tried.map((odd) => [odd.name, odd] as const))('%s', async (_, odd) => {
      const direct = await attempt(odd, 'direct');
      const through = await attempt(odd, 'mirror');
      // A client compares what it gets with its digest: an artifact that it has pulled is right.
      if (direct === undefined) expect(through).toBeUndefined();
    });
  });
}
