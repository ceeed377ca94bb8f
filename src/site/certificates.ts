import { X509Certificate } from 'node:crypto';
import type { Condition } from '../http/operator-routes.ts';

const dayMs = 86_400_000;
/** How long before its expiry a certificate is reported, or a tenth of its lifetime if that is shorter. */
const soonMs = 14 * dayMs;
const lastShare = 1 / 10;

/** A certificate that is in use. */
export interface CertificateStatus {
  /** The key that names its file, such as `tls.certFile`. */
  readonly key: string;
  readonly file: string;
  /** Wall clock in milliseconds. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/**
 * How long what a PEM text holds is good: its first certificate, or of authorities the one that is good for the longest.
 * @returns `undefined` where it holds no certificate that can be read
 */
export function certificateIn(text: string, key: string): Pick<CertificateStatus, 'fromMs' | 'untilMs'> | undefined {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const found = blocks.flatMap((block) => {
    try {
      const { validFromDate, validToDate } = new X509Certificate(block);
      return [{ fromMs: validFromDate.getTime(), untilMs: validToDate.getTime() }];
    } catch {
      return [];
    }
  });
  if (key.endsWith('certFile')) return found[0];
  return found.toSorted((one, other) => other.untilMs - one.untilMs)[0];
}

/** A condition for each certificate that has expired or soon will. */
export function expiryConditions(certificates: readonly CertificateStatus[], nowMs: number): Condition[] {
  return certificates.flatMap(({ key, file, fromMs, untilMs }): Condition[] => {
    const leftMs = untilMs - nowMs;
    const at = new Date(untilMs).toISOString();
    if (leftMs <= 0)
      return [{ code: 'certificate-expired', text: `${key}: the certificate in ${file} has expired at ${at}` }];
    if (leftMs >= Math.min(soonMs, (untilMs - fromMs) * lastShare)) return [];
    return [{ code: 'certificate-expiring', text: `${key}: the certificate in ${file} expires at ${at}` }];
  });
}
