/** The error under got's own, which refers to the request with all its headers. */
export function originOf(error: unknown): Error {
  let origin = error;
  while (origin instanceof Error && 'options' in origin && origin.cause instanceof Error) origin = origin.cause;
  const code = codeOf(origin);
  // A failed proxy tunnel names the proxy's address with its password.
  if (code === 'ERR_PROXY_TUNNEL') return Object.assign(new Error('the proxy refused the tunnel'), { code });
  if (origin instanceof Error && !('options' in origin)) return origin;
  return Object.assign(new Error(origin instanceof Error ? origin.message : 'request failed'), { code });
}

/** The code of an error of Node or of a library, such as `ECONNREFUSED`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
