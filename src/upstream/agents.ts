import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { createSecureContext, getCACertificates } from 'node:tls';
import type { TlsOptions } from './options.ts';

/** The pair of agents that a request chooses from by its scheme. */
export interface AgentPair {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
}

/** Which connections a request shares: small answers never wait behind blobs. */
export type Lane = 'metadata' | 'blob';

export interface AgentOptions {
  readonly tls: TlsOptions;
  readonly maxConnections: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * The keep-alive connections of one upstream. Its own hosts and the hosts it redirects to are kept apart: the client
 * certificate and `insecureSkipVerify` are for the former only, and a connection that passed no address guard is never
 * reused for a redirect.
 */
export class Agents {
  /** Presented to the upstream's own hosts: PEM text. */
  readonly certificate: string | undefined;
  readonly #own: Record<Lane, AgentPair>;
  readonly #foreign: Record<Lane, AgentPair>;

  /** @throws Error of the file system or of OpenSSL if a certificate or key cannot be read */
  constructor(options: AgentOptions) {
    const { tls } = options;
    const ca = tls.ca === undefined ? {} : { ca: [...getCACertificates('default'), readPem(tls.ca)] };
    const identity = {
      ...(tls.cert !== undefined && { cert: readPem(tls.cert) }),
      ...(tls.key !== undefined && { key: readPem(tls.key) }),
    };
    this.certificate = identity.cert;
    const own = {
      secureContext: createSecureContext({ ...ca, ...identity }),
      rejectUnauthorized: tls.insecureSkipVerify !== true,
    };
    const foreign = { secureContext: createSecureContext(ca), rejectUnauthorized: true };
    this.#own = { metadata: createPair(options, own), blob: createPair(options, own) };
    this.#foreign = { metadata: createPair(options, foreign), blob: createPair(options, foreign) };
  }

  pair(lane: Lane, { own }: { own: boolean }): AgentPair {
    return (own ? this.#own : this.#foreign)[lane];
  }

  /** Closes all connections, including those in use. */
  close(): void {
    for (const lanes of [this.#own, this.#foreign]) {
      for (const pair of Object.values(lanes)) {
        pair.http.destroy();
        pair.https.destroy();
      }
    }
  }
}

function createPair(
  { maxConnections, environment }: AgentOptions,
  secure: { secureContext: ReturnType<typeof createSecureContext>; rejectUnauthorized: boolean },
): AgentPair {
  const common = { keepAlive: true, maxSockets: maxConnections, scheduling: 'lifo' as const, proxyEnv: environment };
  return { http: new HttpAgent(common), https: new HttpsAgent({ ...common, ...secure }) };
}

function readPem(value: string): string {
  return value.includes('-----BEGIN') ? value : readFileSync(value, 'utf8');
}
