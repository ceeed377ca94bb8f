import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FakeAzure, startAzure } from '../support/clouds/azure.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { accept, failureOf, never, upstreamAt } from './support.ts';

const [tenant, client] = ['11111111-1111-1111-1111-111111111111', '22222222-2222-2222-2222-222222222222'];
const acr = { kind: 'acr', clientId: undefined, tenantId: undefined } as const;
const machine = ({ metadata }: FakeAzure) => ({ AZURE_POD_IDENTITY_AUTHORITY_HOST: metadata.origin });

function pullFrom(azure: FakeAzure, options: Parameters<typeof upstreamAt>[1]) {
  const upstream = upstreamAt(azure.registry.origin, { credentials: acr, ...options });
  const pull = async (name: string) =>
    (await upstream.client.getManifest(name, 'v1', { accept, signal: never() })).bytes.length;
  return { upstream, pull, [Symbol.dispose]: () => upstream[Symbol.dispose]() };
}

test.each<[string, (azure: FakeAzure, folder: string) => Promise<Record<string, string>>]>([
  ['the only managed identity of the machine', (azure) => Promise.resolve(machine(azure))],
  [
    'a managed identity by its client ID',
    (azure) => Promise.resolve({ ...machine(azure), AZURE_CLIENT_ID: client, AZURE_TENANT_ID: tenant }),
  ],
  [
    'workload identity',
    async (azure, folder) => {
      await writeFile(join(folder, 'token'), azure.federatedToken);
      return {
        AZURE_FEDERATED_TOKEN_FILE: join(folder, 'token'),
        AZURE_AUTHORITY_HOST: `${azure.entra.origin}/`,
        AZURE_CLIENT_ID: client,
        AZURE_TENANT_ID: tenant,
      };
    },
  ],
  [
    'the identity of App Service',
    (azure) =>
      Promise.resolve({
        IDENTITY_ENDPOINT: `${azure.appService.origin}/msi/token`,
        IDENTITY_HEADER: azure.appServiceHeader,
      }),
  ],
])('a refresh token is obtained with %s and exchanged, by requests as documented', async (_, environmentOf) => {
  await using folder = await temporaryDirectory('azure');
  await using azure = await startAzure();
  azure.registry.addImage('team/app', 'v1');
  using pulling = pullFrom(azure, { environment: await environmentOf(azure, folder.path) });
  expect(await pulling.pull('team/app')).toBeGreaterThan(0);
  expect(azure.violations).toEqual([]);
  const [status] = pulling.upstream.status().endpoints[0]?.credentials ?? [];
  expect(Math.abs(status!.expiresAtMs! - Date.now() - 3 * 3_600_000)).toBeLessThan(60_000);
  expect(JSON.stringify(pulling.upstream.status())).not.toContain('canary');
});

test('a registry that takes tokens for Azure Resource Manager only gets one', async () => {
  await using azure = await startAzure();
  azure.takesArmOnly = true;
  azure.registry.addImage('team/app', 'v1');
  using pulling = pullFrom(azure, { environment: machine(azure) });
  expect(await pulling.pull('team/app')).toBeGreaterThan(0);
  expect(azure.violations).toEqual([]);
});

test('a refresh token that expires between two repositories is renewed: the pull goes on', async () => {
  await using azure = await startAzure();
  for (const name of ['team/one', 'team/two']) azure.registry.addImage(name, 'v1');
  using pulling = pullFrom(azure, { environment: machine(azure) });
  await pulling.pull('team/one');
  azure.expireTokens();
  expect(await pulling.pull('team/two')).toBeGreaterThan(0);
  expect([azure.metadata.calls.length, azure.violations]).toEqual([2, []]);
});

test('a refusal states its status and code, and nothing else of the answer', async () => {
  await using folder = await temporaryDirectory('azure');
  await using azure = await startAzure();
  await writeFile(join(folder.path, 'token'), 'another');
  const environment = {
    AZURE_FEDERATED_TOKEN_FILE: join(folder.path, 'token'),
    AZURE_AUTHORITY_HOST: azure.entra.origin,
  };
  using pulling = pullFrom(azure, { environment, credentials: { ...acr, clientId: client, tenantId: tenant } });
  const error = await failureOf(pulling.pull('team/app'));
  expect(error.message).toContain('gets its credentials from Azure, which answered 400 invalid_client');
  expect(`${error.message} ${String(error.cause)}`).not.toContain('canary');
});
