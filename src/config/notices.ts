import type { Config } from './config.ts';

/** What a valid configuration asks for and does not get, one sentence each. */
export function noticesOf({ serve, tls }: Pick<Config, 'serve' | 'tls'>): string[] {
  if (serve.threads === 1 || tls === undefined) return [];
  return [
    `serve.threads: ${serve.threads} has no effect with tls, because TLS connections are answered by the main thread alone: end TLS in a proxy in front, or set serve.threads to 1`,
  ];
}
