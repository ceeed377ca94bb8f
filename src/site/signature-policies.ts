import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { Config } from '../config/config.ts';
import { formatPath } from '../config/problems.ts';
import { repositoryGlob } from '../oci/glob.ts';
import { createPolicy, type PolicyOptions, type SignaturePolicy } from '../signatures/policy.ts';

type SignatureConfig = Config['upstreams'][number]['signatures'][number];

/** The policy that asks for no signature. */
const off: Omit<PolicyOptions, 'place' | 'repositories'> = {
  mode: 'off',
  keys: [],
  signers: [],
  trustRoot: undefined,
  needsLog: false,
};

/**
 * The signature policies of all upstreams, with what their files hold now.
 * @throws Error in one sentence where a key or a trust root cannot be read
 */
export async function signaturePolicies(config: Config): Promise<Map<string, readonly SignaturePolicy[]>> {
  const policies = new Map<string, readonly SignaturePolicy[]>();
  for (const { name, signatures } of config.upstreams) {
    if (signatures.length === 0) continue;
    const own = signatures.map(async (one, index) => {
      const place = formatPath(['upstreams', name, 'signatures', index]);
      const { repositories, mode } = one;
      return mode === 'off'
        ? createPolicy({ ...off, place, repositories })
        : createPolicy({ place, mode, repositories, ...(await trusted(one, place)) });
    });
    policies.set(name, await Promise.all(own));
  }
  return policies;
}

/** Which signature the images of a repository must carry, in words; `undefined`: none. */
export function signaturesOf(config: Config): (upstream: string, repository: string) => string | undefined {
  return (name, repository) => {
    const { signatures = [] } = config.upstreams.find((upstream) => upstream.name === name) ?? {};
    const index = signatures.findIndex(({ repositories }) =>
      repositories.some((one) => repositoryGlob(one)(repository)),
    );
    const found = signatures[index];
    if (found === undefined) return undefined;
    const { mode, keys, identities } = found;
    const place = formatPath(['upstreams', name, 'signatures', index]);
    if (mode === 'off') return `not looked at (${place})`;
    const signers = identities.map(({ issuer, subject }) => `${subject} of ${issuer}`);
    const by = [...keys.map((file) => `the key ${basename(file)}`), ...signers].join(' or ');
    return `${mode === 'enforce' ? 'required' : 'asked for with a warning'}, by ${by} (${place})`;
  };
}

/** The files of a policy, by the key that names them. */
export function signatureFiles({ keys, trustRoot }: SignatureConfig): Record<string, string | undefined> {
  return { ...Object.fromEntries(keys.map((file, index) => [`keys[${index}]`, file])), trustRoot };
}

async function trusted({ keys, identities, trustRoot, transparencyLog }: SignatureConfig, place: string) {
  const read = (file: string): Promise<string> =>
    readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
      throw new Error(`${place}: ${file} cannot be read: ${error.code}`);
    });
  return {
    keys: await Promise.all(keys.map(async (file) => ({ name: basename(file), pem: await read(file) }))),
    signers: identities,
    trustRoot: trustRoot === undefined ? undefined : await read(trustRoot),
    needsLog: transparencyLog,
  };
}
