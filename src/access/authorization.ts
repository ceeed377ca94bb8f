/** The credentials in an `Authorization` header. */
export type Authorization =
  | { readonly scheme: 'basic'; readonly user: string; readonly password: string }
  | { readonly scheme: 'bearer'; readonly token: string }
  /** Something that cannot be read. */
  | { readonly scheme: 'unknown' };

const controlCharacter = /\p{Cc}/u;

/** @returns `undefined` where there is no header, or an empty one, which some anonymous clients send */
export function parseAuthorization(header: string | undefined): Authorization | undefined {
  if (header === undefined || header.trim() === '') return undefined;
  const [, scheme = '', rest = ''] = /^\s*(\w+)\s+([A-Za-z0-9._~+/=-]+)\s*$/.exec(header) ?? [];
  switch (scheme.toLowerCase()) {
    case 'bearer':
      return { scheme: 'bearer', token: rest };
    case 'basic':
      return basic(rest);
    default:
      return { scheme: 'unknown' };
  }
}

function basic(encoded: string): Authorization {
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon === -1) return { scheme: 'unknown' };
  // Some clients pad what they send with NULs.
  const [user, password] = [text.slice(0, colon), withoutPadding(text.slice(colon + 1))];
  // No name and no password has any (RFC 7617, 2). To bcrypt, which goes over a password and a NUL again and again, the
  // password, a NUL and the password are the same as the password.
  if (controlCharacter.test(user) || controlCharacter.test(password)) return { scheme: 'unknown' };
  return { scheme: 'basic', user, password };
}

function withoutPadding(password: string): string {
  let end = password.length;
  while (end > 0 && password.charCodeAt(end - 1) === 0) end -= 1;
  return password.slice(0, end);
}
