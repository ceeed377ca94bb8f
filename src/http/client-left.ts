const codes: ReadonlySet<string | undefined> = new Set(['ECONNRESET', 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE']);

/** Whether an error says no more than that a client has left in the middle of its answer, which is part of every day. */
export function isClientLeft(error: NodeJS.ErrnoException): boolean {
  return codes.has(error.code);
}
