import { createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type CertificateDescription, certificateBody, certificateDer, certificatePem } from './certificate-der.ts';
import type { RegistryContents } from './contents.ts';

const simpleSigning = 'application/vnd.dev.cosign.simplesigning.v1+json';
const bundleType = 'application/vnd.dev.sigstore.bundle.v0.3+json';
const ociManifestType = 'application/vnd.oci.image.manifest.v1+json';

/** A pair of keys as `cosign generate-key-pair` makes. */
export interface SigningKey {
  readonly privateKey: KeyObject;
  readonly publicPem: string;
}

export function signingKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicPem: publicKey.export({ type: 'spki', format: 'pem' }) };
}

/** What is signed by cosign 2: who is meant, and which digest (cosign, SIGNATURE_SPEC). */
export function payloadOf(digest: string, type = 'cosign container image signature'): Buffer {
  const critical = {
    identity: { 'docker-reference': 'reg.example/app' },
    image: { 'docker-manifest-digest': digest },
    type,
  };
  return Buffer.from(JSON.stringify({ critical, optional: null }));
}

export interface SimpleSignature {
  readonly payload: Buffer;
  /** Beside the signature itself: a certificate, the entry of a log. */
  readonly annotations: Readonly<Record<string, string>>;
}

/** Signs a payload with a key. */
export function simpleSignature(payload: Buffer, { privateKey }: Pick<SigningKey, 'privateKey'>): SimpleSignature {
  const signature = sign('sha256', payload, privateKey).toString('base64');
  return { payload, annotations: { 'dev.cosignproject.cosign/signature': signature } };
}

/** Writes signatures as cosign 2 does: layers of a manifest under the tag `sha256-….sig`, or of a referrer. */
export function attachSimple(
  registry: RegistryContents,
  {
    repository,
    digest,
    signatures,
    place,
  }: { repository: string; digest: string; signatures: readonly SimpleSignature[]; place: 'tag' | 'referrer' },
): string {
  const layers = signatures.map(({ payload, annotations }) => ({
    mediaType: simpleSigning,
    ...put(registry, repository, payload),
    annotations,
  }));
  const config = put(registry, repository, Buffer.from('{"architecture":"","os":"","rootfs":{"type":"layers"}}'));
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifestType,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers,
    ...(place === 'referrer' && {
      artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json',
      subject: { mediaType: ociManifestType, digest, size: 1 },
    }),
  };
  const added = registry.addManifest(repository, undefined, manifest, ociManifestType);
  if (place === 'tag') registry.tag(repository, `${digest.replace(':', '-')}.sig`, added.digest);
  return added.digest;
}

/** A bundle as cosign 3 writes it: a statement about a digest, in an envelope that is signed. */
export function statementBundle(
  digest: string,
  {
    privateKey,
    predicateType = 'https://sigstore.dev/cosign/sign/v1',
  }: Pick<SigningKey, 'privateKey'> & { predicateType?: string },
): object {
  const [algorithm = '', hex = ''] = digest.split(':');
  const statement = {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ digest: { [algorithm]: hex } }],
    predicateType,
    predicate: {},
  };
  const payload = Buffer.from(JSON.stringify(statement));
  const payloadType = 'application/vnd.in-toto+json';
  const encoded = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
    payload,
  ]);
  return {
    mediaType: bundleType,
    verificationMaterial: { publicKey: { hint: 'a hint' }, tlogEntries: [] },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType,
      signatures: [{ sig: sign('sha256', encoded, privateKey).toString('base64') }],
    },
  };
}

/** A bundle as `cosign sign-blob` writes it: a signature over the bytes of a manifest. */
export function messageBundle(manifest: Buffer, { privateKey }: Pick<SigningKey, 'privateKey'>): object {
  const digest = createHash('sha256').update(manifest).digest('base64');
  return {
    mediaType: bundleType,
    verificationMaterial: { publicKey: { hint: 'a hint' } },
    messageSignature: {
      messageDigest: { algorithm: 'SHA2_256', digest },
      signature: sign('sha256', manifest, privateKey).toString('base64'),
    },
  };
}

/** Attaches a bundle as a referrer. @returns its digest */
export function attachBundle(
  registry: RegistryContents,
  { repository, digest, bundle }: { repository: string; digest: string; bundle: object },
): string {
  const layer = { mediaType: bundleType, ...put(registry, repository, Buffer.from(JSON.stringify(bundle))) };
  const config = put(registry, repository, Buffer.from('{}'));
  const manifest = {
    schemaVersion: 2,
    mediaType: ociManifestType,
    artifactType: bundleType,
    config: { mediaType: 'application/vnd.oci.empty.v1+json', ...config },
    layers: [layer],
    subject: { mediaType: ociManifestType, digest, size: 1 },
  };
  return registry.addManifest(repository, undefined, manifest, ociManifestType).digest;
}

function put(registry: RegistryContents, repository: string, bytes: Buffer): { digest: string; size: number } {
  const { digest } = registry.addBlob(bytes, { repository });
  return { digest, size: bytes.length };
}

/** An authority of short-lived certificates and a transparency log, as Fulcio and Rekor are. */
export class FakeSigstore {
  readonly #authority = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #log = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #certificate: Buffer;
  readonly #from = new Date(Date.now() - 365 * 86_400_000);
  readonly #to = new Date(Date.now() + 365 * 86_400_000);

  constructor() {
    const { publicKey, privateKey } = this.#authority;
    const times = { notBefore: this.#from, notAfter: this.#to };
    const name = 'fake fulcio';
    this.#certificate = certificateDer({
      subject: name,
      issuer: name,
      publicKey,
      signedBy: privateKey,
      ...times,
      isAuthority: true,
    });
  }

  /** The file that verifiers trust. */
  get trustRoot(): object {
    const validFor = { start: this.#from.toISOString(), end: this.#to.toISOString() };
    return {
      mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
      tlogs: [
        {
          baseUrl: 'https://rekor.test',
          hashAlgorithm: 'SHA2_256',
          publicKey: { rawBytes: this.#logKey.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor },
          logId: { keyId: this.logId.toString('base64') },
        },
      ],
      certificateAuthorities: [
        {
          subject: { organization: 'test', commonName: 'fake fulcio' },
          uri: 'https://fulcio.test',
          certChain: { certificates: [{ rawBytes: this.#certificate.toString('base64') }] },
          validFor,
        },
      ],
      ctlogs: [],
      timestampAuthorities: [],
    };
  }

  /**
   * Signs a payload without a key of one's own: with a certificate for ten minutes.
   * @param options `atMs`: when; `isLogged`: whether the log has it
   */
  sign(
    payload: Buffer,
    {
      issuer,
      subject,
      atMs,
      isLogged = true,
      usages = ['1.3.6.1.5.5.7.3.3'],
    }: { issuer: string; subject: string; atMs: number; isLogged?: boolean; usages?: readonly string[] },
  ): SimpleSignature {
    const { privateKey, certificate: raw } = this.certify({ issuer, subject, atMs, usages });
    const certificate = certificatePem(raw);
    const signed = simpleSignature(payload, { privateKey });
    const signature = signed.annotations['dev.cosignproject.cosign/signature']!;
    return {
      payload,
      annotations: {
        ...signed.annotations,
        'dev.sigstore.cosign/certificate': certificate,
        'dev.sigstore.cosign/chain': certificatePem(this.#certificate),
        ...(isLogged && {
          'dev.sigstore.cosign/bundle': JSON.stringify(this.#entry({ payload, signature, certificate, atMs })),
        }),
      },
    };
  }

  /** A bundle with a certificate: a statement about a digest, with an entry in the log. */
  bundle(digest: string, { issuer, subject, atMs }: { issuer: string; subject: string; atMs: number }): object {
    const { privateKey, certificate } = this.certify({ issuer, subject, atMs, usages: ['1.3.6.1.5.5.7.3.3'] });
    const { dsseEnvelope } = statementBundle(digest, { privateKey }) as {
      dsseEnvelope: { payload: string; signatures: { sig: string }[] };
    };
    const value = createHash('sha256').update(Buffer.from(dsseEnvelope.payload, 'base64')).digest('hex');
    const spec = {
      payloadHash: { algorithm: 'sha256', value },
      signatures: [{ signature: dsseEnvelope.signatures[0]!.sig }],
    };
    const { promise, signedEntry } = this.promise({ apiVersion: '0.0.1', kind: 'dsse', spec }, atMs);
    const { body, integratedTime, logIndex } = signedEntry;
    return {
      mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.1',
      verificationMaterial: {
        x509CertificateChain: { certificates: [{ rawBytes: certificate.toString('base64') }] },
        tlogEntries: [
          {
            logIndex: String(logIndex),
            logId: { keyId: this.logId.toString('base64') },
            kindVersion: { kind: 'dsse', version: '0.0.1' },
            integratedTime: String(integratedTime),
            inclusionPromise: { signedEntryTimestamp: promise },
            canonicalizedBody: body,
          },
        ],
      },
      dsseEnvelope,
    };
  }

  /**
   * A key and its certificate for ten minutes.
   * @param options `stamped`: the value of an extension by what the certificate says without it
   */
  certify({
    issuer,
    subject,
    atMs,
    usages = ['1.3.6.1.5.5.7.3.3'],
    stamped,
  }: {
    issuer: string;
    subject: string;
    atMs: number;
    usages?: readonly string[];
    stamped?: { readonly id: string; readonly value: (body: Buffer, authority: Buffer) => Buffer } | undefined;
  }) {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const description: CertificateDescription = {
      subject: 'sigstore',
      issuer: 'fake fulcio',
      publicKey,
      signedBy: this.#authority.privateKey,
      notBefore: new Date(atMs - 60_000),
      notAfter: new Date(atMs + 540_000),
      uri: subject,
      usages,
      texts: { '1.3.6.1.4.1.57264.1.1': issuer },
    };
    if (stamped === undefined) return { privateKey, certificate: certificateDer(description) };
    const authority = this.#authority.publicKey.export({ type: 'spki', format: 'der' });
    const value = stamped.value(certificateBody(description), authority);
    const texts = { ...description.texts, [stamped.id]: value };
    return { privateKey, certificate: certificateDer({ ...description, texts }) };
  }

  /** An entry of the log, with its promise (Rekor, "Signed Entry Timestamp"). */
  #entry({
    payload,
    signature,
    certificate,
    atMs,
  }: {
    payload: Buffer;
    signature: string;
    certificate: string;
    atMs: number;
  }): object {
    const value = createHash('sha256').update(payload).digest('hex');
    const entry = {
      apiVersion: '0.0.1',
      kind: 'hashedrekord',
      spec: {
        data: { hash: { algorithm: 'sha256', value } },
        signature: { content: signature, publicKey: { content: Buffer.from(certificate).toString('base64') } },
      },
    };
    const { promise, signedEntry } = this.promise(entry, atMs);
    return { SignedEntryTimestamp: promise, Payload: signedEntry };
  }

  /** What the log promises of an entry. */
  promise(entry: object, atMs: number) {
    // The members in the order of RFC 8785.
    const signedEntry = {
      body: Buffer.from(JSON.stringify(entry)).toString('base64'),
      integratedTime: Math.floor(atMs / 1000),
      logID: this.logId.toString('hex'),
      logIndex: 7,
    };
    const promise = sign('sha256', Buffer.from(JSON.stringify(signedEntry)), this.#log.privateKey);
    return { promise: promise.toString('base64'), signedEntry };
  }

  /** Signs something as the log. */
  signAsLog(bytes: Buffer): Buffer {
    return sign('sha256', bytes, this.#log.privateKey);
  }

  get #logKey(): Buffer {
    return this.#log.publicKey.export({ type: 'spki', format: 'der' });
  }

  get logId(): Buffer {
    return createHash('sha256').update(this.#logKey).digest();
  }
}
