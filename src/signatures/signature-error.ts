/** A signature does not count; the message says why, as a clause about it. */
export class SignatureError extends Error {
  override readonly name = 'SignatureError';
}
