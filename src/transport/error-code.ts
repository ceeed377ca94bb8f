/** The code of an error of Node or of a library, such as `ECONNREFUSED`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** The code that a request failed with, without secrets: a failed proxy tunnel names the proxy's address with its password. */
export function withoutSecrets(error: unknown): unknown {
  const code = codeOf(error);
  if (code?.startsWith('ERR_PROXY_') !== true) return error;
  return Object.assign(new Error('the proxy refused the tunnel'), { code });
}

/** Whether an answer that could not be parsed begins with a frame of HTTP/2 (RFC 9113, 4.1): SETTINGS or GOAWAY. */
export function isHttp2Answer(error: unknown): boolean {
  const packet = error instanceof Error && 'rawPacket' in error ? error.rawPacket : undefined;
  if (!Buffer.isBuffer(packet) || packet.length < 9) return false;
  const type = packet[3];
  return (type === 4 || type === 7) && packet.readUInt32BE(5) === 0;
}
