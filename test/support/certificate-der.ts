import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { der, name, oid, sequence, time } from './der.ts';

/** ecdsa-with-SHA256. */
const ecdsa = '1.2.840.10045.4.3.2';

/** What a certificate says. */
export interface CertificateDescription {
  readonly subject: string;
  readonly issuer: string;
  readonly publicKey: KeyObject;
  /** Of the issuer. */
  readonly signedBy: KeyObject;
  readonly notBefore: Date;
  readonly notAfter: Date;
  readonly isAuthority?: boolean;
  /** A subject alternative name that is a URI. */
  readonly uri?: string;
  /** Object identifiers of extended key usages. */
  readonly usages?: readonly string[];
  /** Other extensions: values as they are, by object identifier. */
  readonly texts?: Readonly<Record<string, string | Buffer>>;
}

/** A certificate in DER (RFC 5280, 4.1), of any time: programs that make certificates have no past. */
export function certificateDer(description: CertificateDescription): Buffer {
  const body = certificateBody(description);
  const signature = sign('sha256', body, description.signedBy);
  return sequence(body, sequence(oid(ecdsa)), der(0x03, Buffer.concat([Buffer.from([0]), signature])));
}

/** The number that a certificate has. */
export function serialOf({ notBefore }: Pick<CertificateDescription, 'notBefore'>): Buffer {
  return der(0x02, Buffer.from([1, ...Buffer.from(String(notBefore.getTime()))]));
}

/** What is signed of a certificate. */
export function certificateBody(description: CertificateDescription): Buffer {
  const { subject, issuer, publicKey, notBefore, notAfter, isAuthority, uri, usages, texts = {} } = description;
  const extensions = [
    ...(isAuthority
      ? [
          extension('2.5.29.19', sequence(der(0x01, Buffer.from([0xff]))), true),
          extension('2.5.29.15', der(0x03, Buffer.from([1, 0x06])), true),
        ]
      : [extension('2.5.29.15', der(0x03, Buffer.from([7, 0x80])), true)]),
    ...(usages ? [extension('2.5.29.37', sequence(...usages.map(oid)))] : []),
    ...(uri === undefined ? [] : [extension('2.5.29.17', sequence(der(0x86, Buffer.from(uri))), true)]),
    ...Object.entries(texts).map(([id, text]) => extension(id, Buffer.isBuffer(text) ? text : Buffer.from(text))),
  ];
  return sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    serialOf(description),
    sequence(oid(ecdsa)),
    name(issuer),
    sequence(time(notBefore), time(notAfter)),
    name(subject),
    createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
}

/** In PEM. */
export function certificatePem(certificate: Buffer): string {
  const lines = certificate.toString('base64').replaceAll(/(.{64})/g, '$1\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  const critical = isCritical ? [der(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(id), ...critical, der(0x04, value));
}
