import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './processes.ts';

/** A certificate and its key as files; the texts are PEM. */
export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

/** An authority that no system trusts. */
export interface Authority extends Certificate {
  /** A certificate, as a server and as a client. @param subject default: 127.0.0.1 */
  issue(name: string, subject?: string): Promise<Certificate>;
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];

/** Makes an authority whose files are in a folder. Needs `openssl`. */
export async function makeAuthority(folder: string, authority: string): Promise<Authority> {
  const make = async (name: string, args: readonly string[]): Promise<Certificate> => {
    const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
    const files = ['-subj', `/CN=${name}`, '-keyout', keyFile, '-out', certFile];
    await run('openssl', ['req', '-x509', ...newKey, ...args, ...files]);
    return { certFile, keyFile, cert: await readFile(certFile, 'utf8'), key: await readFile(keyFile, 'utf8') };
  };
  const own = await make(authority, []);
  const signed = ['-CA', own.certFile, '-CAkey', own.keyFile];
  return {
    ...own,
    issue: (name, subject = 'IP:127.0.0.1') => make(name, [...signed, '-addext', `subjectAltName=${subject}`]),
  };
}

/** A certificate that is its own authority, in a folder of its own; disposing removes it. Needs `openssl`. */
export async function selfSigned(
  subject = 'IP:127.0.0.1',
): Promise<Certificate & { readonly folder: string } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), 'millpond-certificate-'));
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const files = ['-subj', '/CN=test', '-keyout', keyFile, '-out', certFile];
  await run('openssl', ['req', '-x509', ...newKey, '-addext', `subjectAltName=${subject}`, ...files]);
  return {
    folder,
    certFile,
    keyFile,
    cert: await readFile(certFile, 'utf8'),
    key: await readFile(keyFile, 'utf8'),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}
