import { createPublicKey, type KeyObject, sign } from 'node:crypto';

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
  /** Other extensions: texts as they are, by object identifier. */
  readonly texts?: Readonly<Record<string, string>>;
}

/** A certificate in DER (RFC 5280, 4.1), of any time: programs that make certificates have no past. */
export function certificateDer(description: CertificateDescription): Buffer {
  const {
    subject,
    issuer,
    publicKey,
    signedBy,
    notBefore,
    notAfter,
    isAuthority,
    uri,
    usages,
    texts = {},
  } = description;
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'));
  const extensions = [
    ...(isAuthority
      ? [
          extension('2.5.29.19', sequence(der(0x01, Buffer.from([0xff]))), true),
          extension('2.5.29.15', der(0x03, Buffer.from([1, 0x06])), true),
        ]
      : [extension('2.5.29.15', der(0x03, Buffer.from([7, 0x80])), true)]),
    ...(usages ? [extension('2.5.29.37', sequence(...usages.map(oid)))] : []),
    ...(uri === undefined ? [] : [extension('2.5.29.17', sequence(der(0x86, Buffer.from(uri))), true)]),
    ...Object.entries(texts).map(([id, text]) => extension(id, Buffer.from(text))),
  ];
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1, ...Buffer.from(String(notBefore.getTime()))])),
    algorithm,
    name(issuer),
    sequence(time(notBefore), time(notAfter)),
    name(subject),
    createPublicKey(publicKey.export({ type: 'spki', format: 'pem' })).export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(...extensions)),
  );
  return sequence(body, algorithm, der(0x03, Buffer.concat([Buffer.from([0]), sign('sha256', body, signedBy)])));
}

/** In PEM. */
export function certificatePem(certificate: Buffer): string {
  const lines = certificate.toString('base64').replaceAll(/(.{64})/g, '$1\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const digits = [part & 0x7f];
    for (let left = part >> 7; left > 0; left >>= 7) digits.unshift((left & 0x7f) | 0x80);
    bytes.push(...digits);
  }
  return der(0x06, Buffer.from(bytes));
}

function extension(id: string, value: Buffer, isCritical = false): Buffer {
  const critical = isCritical ? [der(0x01, Buffer.from([0xff]))] : [];
  return sequence(oid(id), ...critical, der(0x04, value));
}

function name(text: string): Buffer {
  return sequence(der(0x31, sequence(oid('2.5.4.3'), der(0x0c, Buffer.from(text)))));
}

function time(date: Date): Buffer {
  return der(0x18, Buffer.from(`${date.toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`));
}
