/** The code of an error of Node or of a library, such as `ECONNREFUSED`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What a request failed with, without secrets: a failed proxy tunnel names the proxy's address with its password. */
export function withoutSecrets(error: unknown): unknown {
  const code = codeOf(error);
  if (code?.startsWith('ERR_PROXY_') !== true) return error;
  return Object.assign(new Error('the proxy refused the tunnel'), { code });
}
