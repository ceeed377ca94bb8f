import { createHmac } from 'node:crypto';

/**
 * The headers by which a receiver knows that a webhook comes from here (standardwebhooks.com): HMAC-SHA256 over the id,
 * the time and the body.
 * @param message `atMs`: when it is sent, in milliseconds since 1970
 */
export function webhookHeaders(
  message: { readonly id: string; readonly atMs: number; readonly body: string },
  secret: Buffer,
): Readonly<Record<string, string>> {
  const { id, atMs, body } = message;
  const seconds = String(Math.floor(atMs / 1000));
  const mac = createHmac('sha256', secret).update(`${id}.${seconds}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': seconds, 'webhook-signature': `v1,${mac}` };
}
