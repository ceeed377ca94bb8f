import type { Config } from './config.ts';

/** Settings of a valid configuration without effect, one sentence each. */
export function noticesOf({ serve, tls }: Pick<Config, 'serve' | 'tls'>): string[] {
  if (serve.threads === 1 || serve.threads === 'auto' || tls?.clientCaFile === undefined) return [];
  return [
    `serve.threads: ${serve.threads} has no effect with tls.clientCaFile, because the main thread alone asks clients for certificates: end TLS in a proxy in front, or set serve.threads to 1`,
  ];
}
