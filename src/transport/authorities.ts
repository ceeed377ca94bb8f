import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import type { Environment } from './proxies.ts';

/** Where Linux distributions keep the bundle of their authorities, as Go looks for it. */
const bundleFiles: readonly string[] = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/etc/ssl/ca-bundle.pem',
  '/etc/pki/tls/cacert.pem',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

const certificate = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/**
 * The authorities whose certificates are trusted: those that Node brings along, `NODE_EXTRA_CA_CERTS`, and those of the
 * system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set. Read when they are first needed, and kept: a
 * mirror has one of these for all its upstreams.
 */
export class Authorities {
  readonly #environment: Environment;
  #certificates: readonly string[] | undefined;
  #context: SecureContext | undefined;

  /** @throws Error where `SSL_CERT_FILE` names a file that cannot be read */
  constructor(environment: Environment) {
    this.#environment = environment;
    const file = environment['SSL_CERT_FILE'];
    if (file !== undefined && file !== '' && !existsSync(file)) {
      throw new Error(`SSL_CERT_FILE names ${file}, which does not exist`);
    }
  }

  /** PEM texts, each of one certificate. */
  get certificates(): readonly string[] {
    this.#certificates ??= [...new Set([...getCACertificates('default'), ...systemCertificates(this.#environment)])];
    return this.#certificates;
  }

  /** Trusts them, and shows nothing. */
  get context(): SecureContext {
    this.#context ??= createSecureContext({ ca: [...this.certificates] });
    return this.#context;
  }
}

function systemCertificates(environment: Environment): readonly string[] {
  const { SSL_CERT_FILE: file = '', SSL_CERT_DIR: folders = '' } = environment;
  if (file !== '' || folders !== '') {
    const files = folders
      .split(':')
      .filter((folder) => folder !== '' && existsSync(folder))
      .flatMap(filesIn);
    return [...(file === '' ? [] : [file]), ...files].flatMap(certificatesIn);
  }
  const own = getCACertificates('system');
  if (own.length > 0) return own;
  const bundle = bundleFiles.find((candidate) => existsSync(candidate));
  return bundle === undefined ? [] : certificatesIn(bundle);
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(folder, entry.name));
}

function certificatesIn(file: string): string[] {
  try {
    return readFileSync(file, 'latin1').match(certificate) ?? [];
  } catch {
    // One unreadable file of a folder is no reason to trust none.
    return [];
  }
}
