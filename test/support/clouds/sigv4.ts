import { createHash, createHmac } from 'node:crypto';
import { type ServiceCall, Violation } from './service.ts';

/** What requests must be signed with. */
export interface SigningKeys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface Signing {
  readonly keys: SigningKeys;
  readonly region: string;
  readonly service: string;
  readonly nowMs: number;
}

/** Largest difference of clocks, as Amazon has it. */
const maxSkewMs = 5 * 60_000;

/**
 * Checks a signature of Signature Version 4 ("Create a signed AWS API request", AWS IAM User Guide), written from the
 * documentation and apart from what the mirror signs with.
 * @throws Violation
 */
export function requireSignature(call: ServiceCall, { keys, region, service, nowMs }: Signing): void {
  const { headers } = call;
  const date = headerOf(call, 'x-amz-date');
  const [, day] = /^(\d{8})T\d{6}Z$/.exec(date) ?? [];
  if (day === undefined) throw new Violation('x-amz-date is no date');
  const at = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
  if (Math.abs(at - nowMs) > maxSkewMs) throw new Violation('x-amz-date is too far from now');
  const [, accessKeyId, scope, signedHeaders = '', signature] =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    ) ?? [];
  if (accessKeyId !== keys.accessKeyId) throw new Violation(`is signed by ${accessKeyId}`);
  const ownScope = `${day}/${region}/${service}/aws4_request`;
  if (scope !== ownScope) throw new Violation(`is signed for ${scope}`);
  const names = signedHeaders.split(';');
  const needed = ['host', ...Object.keys(headers).filter((name) => name.startsWith('x-amz-'))];
  for (const name of needed) if (!names.includes(name)) throw new Violation(`${name} is not signed`);
  if (names.join(';') !== names.toSorted().join(';')) throw new Violation('signed headers are not in order');
  if (headers['x-amz-security-token'] !== keys.sessionToken) throw new Violation('has another session token');
  const query = [...call.query]
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .toSorted()
    .join('&');
  const canonical = [
    call.method,
    call.path,
    query,
    ...names.map((name) => `${name}:${headerOf(call, name).trim().replaceAll(/ +/g, ' ')}`),
    '',
    signedHeaders,
    sha256(call.body),
  ].join('\n');
  const text = ['AWS4-HMAC-SHA256', date, ownScope, sha256(canonical)].join('\n');
  const key = [day, region, service, 'aws4_request'].reduce<Buffer | string>(
    (secret, part) => hmac(secret, part),
    `AWS4${keys.secretAccessKey}`,
  );
  if (hmac(key, text).toString('hex') !== signature) throw new Violation('the signature is wrong');
}

function headerOf({ headers }: ServiceCall, name: string): string {
  const value = headers[name];
  if (typeof value !== 'string') throw new Violation(`${name} is missing`);
  return value;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function hmac(key: Buffer | string, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
