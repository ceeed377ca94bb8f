import { createRequire } from 'node:module';
import type { TrustMaterial } from '@sigstore/verify';

// Loaded with the first trust root: most mirrors have none.
const require = createRequire(import.meta.url);
const specs = () => require('@sigstore/protobuf-specs') as typeof import('@sigstore/protobuf-specs');
const verifying = () => require('@sigstore/verify') as typeof import('@sigstore/verify');

/** Authorities of certificates, transparency logs and timestamps, from a `trusted_root.json`. */
export interface TrustRoot {
  readonly material: TrustMaterial;
  readonly hasLogs: boolean;
  readonly hasCertificateLogs: boolean;
}

/** @throws Error in one sentence */
export function parseTrustRoot(text: string, place: string): TrustRoot {
  try {
    const root = specs().TrustedRoot.fromJSON(JSON.parse(text));
    return {
      material: verifying().toTrustMaterial(root),
      hasLogs: root.tlogs.length > 0,
      hasCertificateLogs: root.ctlogs.length > 0,
    };
  } catch {
    throw new Error(`${place}: trustRoot is no trusted_root.json of Sigstore`);
  }
}
