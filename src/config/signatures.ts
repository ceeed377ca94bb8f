import type { ConfigPath } from './schema-node.ts';
import type { ParsedSignature } from './signature-schema.ts';

/** Checks the policies of an upstream: each must ask for something that can be verified. */
export function checkSignatures(
  signatures: readonly ParsedSignature[],
  path: ConfigPath,
  refuse: (path: ConfigPath, message: string) => void,
): void {
  for (const [index, { mode, keys, identities, trustRoot, transparencyLog }] of signatures.entries()) {
    const place = [...path, 'signatures', index];
    const isEmpty = keys.length === 0 && identities.length === 0;
    if (mode === 'off') {
      if (!isEmpty) refuse(place, 'mode: off goes without keys and identities');
      continue;
    }
    if (isEmpty) refuse(place, 'accepted: keys, identities, or both');
    if (trustRoot === undefined && identities.length > 0)
      refuse(place, 'identities require trustRoot, which is missing');
    if (trustRoot === undefined && transparencyLog)
      refuse(place, 'transparencyLog requires trustRoot, which is missing');
  }
}
