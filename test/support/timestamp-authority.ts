import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { certificateDer, serialOf } from './certificate-der.ts';
import { der, name, oid, sequence, time } from './der.ts';

const signedData = '1.2.840.113549.1.7.2';
const timestampInfo = '1.2.840.113549.1.9.16.1.4';
const contentType = '1.2.840.113549.1.9.3';
const messageDigest = '1.2.840.113549.1.9.4';
const sha256 = sequence(oid('2.16.840.1.101.3.4.2.1'));
const ecdsa = sequence(oid('1.2.840.10045.4.3.2'));

/** An authority that says when something was there (RFC 3161). */
export class TimestampAuthority {
  readonly #root = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #times: { readonly notBefore: Date; readonly notAfter: Date };
  readonly #rootName = 'fake timestamp root';

  constructor({ fromMs, toMs }: { readonly fromMs: number; readonly toMs: number }) {
    this.#times = { notBefore: new Date(fromMs), notAfter: new Date(toMs) };
  }

  /** As a trust root has it. */
  get trusted(): object {
    const issuer = this.#rootName;
    const common = { ...this.#times, issuer, signedBy: this.#root.privateKey };
    const { publicKey } = this.#own;
    const own = certificateDer({ ...common, subject: 'fake authority', publicKey, usages: ['1.3.6.1.5.5.7.3.8'] });
    const root = certificateDer({ ...common, subject: issuer, publicKey: this.#root.publicKey, isAuthority: true });
    return {
      subject: { organization: 'test', commonName: 'fake authority' },
      uri: 'https://timestamp.test',
      certChain: { certificates: [own, root].map((one) => ({ rawBytes: one.toString('base64') })) },
      validFor: { start: this.#times.notBefore.toISOString(), end: this.#times.notAfter.toISOString() },
    };
  }

  /** A response over some bytes (RFC 3161, 2.4.2), of any time. */
  stamp(bytes: Buffer, atMs: number): Buffer {
    const imprint = sequence(sha256, octets(digestOf(bytes)));
    const info = sequence(integer(1), oid('1.2.3.4'), imprint, integer(1), time(new Date(atMs)));
    const attributes = Buffer.concat([
      sequence(oid(contentType), set(oid(timestampInfo))),
      sequence(oid(messageDigest), set(octets(digestOf(info)))),
    ]);
    const signature = sign('sha256', set(attributes), this.#own.privateKey);
    const signer = sequence(name(this.#rootName), serialOf(this.#times));
    const signerInfo = sequence(integer(1), signer, sha256, der(0xa0, attributes), ecdsa, octets(signature));
    const content = sequence(oid(timestampInfo), der(0xa0, octets(info)));
    const token = sequence(oid(signedData), der(0xa0, sequence(integer(3), set(sha256), content, set(signerInfo))));
    return sequence(sequence(integer(0)), token);
  }
}

function digestOf(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function integer(value: number): Buffer {
  return der(0x02, Buffer.from([value]));
}

function octets(bytes: Buffer): Buffer {
  return der(0x04, bytes);
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts));
}
