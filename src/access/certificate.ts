import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** The identity in a client certificate. */
export interface CertificateIdentity {
  /** `CN` of the subject. */
  readonly name: string;
  /** `O` and `OU` of the subject, as Kubernetes reads them. */
  readonly groups: readonly string[];
  /** Wall clock in milliseconds. */
  readonly untilMs: number;
}

/**
 * The caller that the certificate of a connection names.
 * @returns `undefined` where the client has shown none; `'refused'` for one that no authority has signed, or that names no one
 */
export function certificateOf(socket: Socket): CertificateIdentity | 'refused' | undefined {
  if (!(socket instanceof TLSSocket)) return undefined;
  const { subject, valid_to: until } = socket.getPeerCertificate();
  if (subject === undefined) return undefined;
  const { CN: name } = subject as { CN?: string | string[] };
  if (!socket.authorized || typeof name !== 'string' || name === '') return 'refused';
  const { O: organizations = [], OU: units = [] } = subject as { O?: string | string[]; OU?: string | string[] };
  return { name, groups: [organizations, units].flat(), untilMs: Date.parse(until) };
}
