/**
 * Domains below which each name belongs to someone else, beside those of the public suffix list: `*` stands for one name.
 * Two registries of two tenants are strangers to each other, as two of github.io are.
 */
const tenantSuffixes: readonly string[] = [
  // Azure, Amazon, Google, Oracle
  'azurecr.io',
  'azurecr.cn',
  'azurecr.us',
  'azurecr.de',
  '*.cloudapp.azure.com',
  'dkr.ecr.*.amazonaws.com',
  'dkr.ecr.*.amazonaws.com.cn',
  'dkr.ecr-fips.*.amazonaws.com',
  'dkr-ecr.*.on.aws',
  'amazonaws.com',
  'amazonaws.com.cn',
  'pkg.dev',
  'ocir.io',
  'ocir.*.oci.oraclecloud.com',
  'oci.oraclecloud.com',
  // Registries as a service
  'jfrog.io',
  'tencentcloudcr.com',
  '*.cr.aliyuncs.com',
  'cloudsmith.io',
  'container-registry.com',
  'gitea.cloud',
  // Networks and tunnels in which each machine has a name
  'ts.net',
  'nip.io',
  'sslip.io',
  'trycloudflare.com',
  'ngrok.io',
  'ngrok.app',
  'ngrok-free.app',
];

/** Names of services and pods of Kubernetes, with or without the cluster's own domain. */
const clusterName = /(?:^|\.)([^.]+\.(?:svc|pod)(?:\.[^.]+)*)$/;

const patterns = tenantSuffixes.map((suffix) => suffix.split('.').toReversed());

/**
 * The part of a host name that belongs to one tenant, where the name is below a domain of many.
 * @returns `undefined` where no such domain is known for it
 */
export function tenantOf(host: string): string | undefined {
  const name = host.toLowerCase().replace(/\.$/, '');
  const cluster = clusterName.exec(name);
  // Each namespace of a cluster is a tenant.
  if (cluster !== null) return cluster[1];
  const labels = name.split('.').toReversed();
  const longest = patterns
    .filter((pattern) =>
      pattern.every((label, index) => (label === '*' ? labels[index] !== undefined : label === labels[index])),
    )
    .map((pattern) => pattern.length)
    .reduce((one, other) => Math.max(one, other), 0);
  if (longest === 0) return undefined;
  // The domain itself is no tenant's.
  return labels
    .slice(0, longest + 1)
    .toReversed()
    .join('.');
}
