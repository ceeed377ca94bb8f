import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { der } from './der.ts';

/** A log of certificates, as authorities of signing keep (RFC 6962). */
export class CertificateLog {
  readonly #key = generateKeyPairSync('ec', { namedCurve: 'P-256' });

  /** As a trust root has it. */
  get trusted(): object {
    return {
      baseUrl: 'https://ctlog.test',
      hashAlgorithm: 'SHA2_256',
      publicKey: {
        rawBytes: this.#publicKey.toString('base64'),
        keyDetails: 'PKIX_ECDSA_P256_SHA_256',
        validFor: { start: new Date(0).toISOString() },
      },
      logId: { keyId: this.#id.toString('base64') },
    };
  }

  /** The extension of a certificate that says that the log has it (3.3). */
  stamped(atMs: number) {
    return {
      id: '1.3.6.1.4.1.11129.2.4.2',
      value: (body: Buffer, authority: Buffer): Buffer => {
        const timestamp = Buffer.alloc(8);
        timestamp.writeBigUInt64BE(BigInt(atMs));
        const issuer = createHash('sha256').update(authority).digest();
        const certificate = Buffer.concat([issuer, length(body.length, 3), body]);
        // Version 1, the kind of signature, and of entry: one before it is issued.
        const signed = Buffer.concat([Buffer.from([0, 0]), timestamp, length(1, 2), certificate, length(0, 2)]);
        const signature = sign('sha256', signed, this.#key.privateKey);
        const own = Buffer.concat([
          Buffer.from([0]),
          this.#id,
          timestamp,
          length(0, 2),
          Buffer.from([4, 3]),
          length(signature.length, 2),
          signature,
        ]);
        const list = Buffer.concat([length(own.length, 2), own]);
        return der(0x04, Buffer.concat([length(list.length, 2), list]));
      },
    };
  }

  get #publicKey(): Buffer {
    return this.#key.publicKey.export({ type: 'spki', format: 'der' });
  }

  get #id(): Buffer {
    return createHash('sha256').update(this.#publicKey).digest();
  }
}

function length(value: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  buffer.writeUIntBE(value, 0, bytes);
  return buffer;
}
