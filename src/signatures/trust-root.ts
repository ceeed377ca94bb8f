import { TrustedRoot } from '@sigstore/protobuf-specs';
import { type TrustMaterial, toTrustMaterial } from '@sigstore/verify';

/** Authorities of certificates, transparency logs and timestamps, from a `trusted_root.json`. */
export interface TrustRoot {
  readonly material: TrustMaterial;
  readonly hasLogs: boolean;
  readonly hasCertificateLogs: boolean;
}

/** @throws Error in one sentence */
export function parseTrustRoot(text: string, place: string): TrustRoot {
  try {
    const root = TrustedRoot.fromJSON(JSON.parse(text));
    return {
      material: toTrustMaterial(root),
      hasLogs: root.tlogs.length > 0,
      hasCertificateLogs: root.ctlogs.length > 0,
    };
  } catch {
    throw new Error(`${place}: trustRoot is no trusted_root.json of Sigstore`);
  }
}
