import { decodeJwt, importPKCS8, SignJWT } from 'jose';

/** The claims of an assertion (RFC 7523, 3). */
export interface Assertion {
  readonly issuer: string;
  readonly audience: string;
  readonly scope: string;
  /** The name of the key. */
  readonly keyId: string;
  /** In seconds since 1970. */
  readonly issuedAt: number;
  readonly expiresAt: number;
}

/**
 * Signs an assertion with RS256.
 * @param key an RSA key in PEM (PKCS 8)
 * @returns `undefined` if the key is none
 */
export async function signAssertion(key: string, assertion: Assertion): Promise<string | undefined> {
  const { issuer, audience, scope, keyId, issuedAt, expiresAt } = assertion;
  const privateKey = await importPKCS8(key, 'RS256').catch(() => undefined);
  if (privateKey === undefined) return undefined;
  return await new SignJWT({ scope })
    .setProtectedHeader({ alg: 'RS256', typ: 'JWT', kid: keyId })
    .setIssuer(issuer)
    .setAudience(audience)
    .setIssuedAt(issuedAt)
    .setExpirationTime(expiresAt)
    .sign(privateKey);
}

/** When a token of someone else says that it expires, in milliseconds: to be renewed by, not to be trusted. */
export function expiryOf(token: string): number | undefined {
  try {
    const { exp } = decodeJwt(token);
    return exp === undefined ? undefined : exp * 1000;
  } catch {
    return undefined;
  }
}
