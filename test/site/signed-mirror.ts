import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ScriptedRegistry, startRegistry } from '../support/registry.ts';
import { FakeSigstore, type SigningKey, signingKey } from '../support/sigstore.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';

/** The repository whose images must be signed. */
export const repository = 'org/app';
/** The signer that the policy trusts. */
export const identity = {
  issuer: 'https://token.actions.test',
  subject: 'https://github.test/org/app/.github/workflows/ci.yml@refs/heads/main',
};

export interface Setting {
  readonly registry: ScriptedRegistry;
  readonly key: SigningKey;
  readonly other: SigningKey;
  readonly sigstore: FakeSigstore;
}

/** A mirror of a registry whose images must be signed by a key or an identity. */
export async function startSigned(
  policy: object = {},
  registryOptions: Parameters<typeof startRegistry>[0] = {},
  trusting: (root: object) => object = (root) => root,
) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const registry = owned.use(await startRegistry(registryOptions));
  const setting: Setting = { registry, key: signingKey(), other: signingKey(), sigstore: new FakeSigstore() };
  const [keyFile, rootFile] = [join(folder.path, 'cosign.pub'), join(folder.path, 'trusted_root.json')];
  await writeFile(keyFile, setting.key.publicPem);
  await writeFile(rootFile, JSON.stringify(trusting(setting.sigstore.trustRoot)));
  const signatures = [
    {
      repositories: ['org/**'],
      keys: [keyFile],
      identities: [{ ...identity, subject: 'https://github.test/org/*@refs/heads/main' }],
      trustRoot: rootFile,
      ...policy,
    },
  ];
  const site = owned.use(
    await startTestSite({
      upstreams: { 'reg.example': { urls: [registry.origin], signatures } },
      config: { cache: { tagTtl: '0s', negativeTtl: '0s' } },
    }),
  );
  const held = owned.move();
  return {
    ...setting,
    site,
    keyFile,
    manifest: (reference: string, name = repository) => site.get(`/v2/${name}/manifests/${reference}?ns=reg.example`),
    head: (reference: string) => site.head(`/v2/${repository}/manifests/${reference}?ns=reg.example`),
    metrics: async () => (await site.get('/metrics')).body.toString(),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}
