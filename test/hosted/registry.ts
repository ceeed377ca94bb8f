import { HostedRegistry, type HostedRegistryOptions } from '../../src/hosted/hosted-registry.ts';
import { HostedRules, type HostedRulesOptions } from '../../src/hosted/rules.ts';

export interface TestRegistryOptions extends Partial<Omit<HostedRegistryOptions, 'rules'>> {
  readonly rules?: Partial<HostedRulesOptions>;
}

/** A registry that hosts `local/**` in a folder. @param options instead of limits that no test reaches by chance */
export function registryIn(folder: string, { rules: ruled, ...options }: TestRegistryOptions = {}): HostedRegistry {
  const rules = new HostedRules({
    repositories: ['local/**'],
    immutableTags: [],
    mediaTypes: [],
    sparseIndexes: false,
    quotas: [],
    ...ruled,
  });
  return new HostedRegistry({
    folder,
    rules: () => rules,
    maxBlobBytes: 1e9,
    maxManifestBytes: 4e6,
    uploadExpiryMs: 1e9,
    graceMs: () => 1e9,
    now: Date.now,
    ...options,
  });
}
