import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { Agents, type ChosenAgent } from '../transport/agents.ts';
import type { Authorities } from '../transport/authorities.ts';
import type { Proxies } from '../transport/proxies.ts';
import { FairPlaces } from '../waiting/fair-places.ts';
import type { TlsOptions } from './options.ts';

/** Connections for requests that are no repository's. */
const neutralConnections = 4;

/** Which connections a request shares: small answers never wait behind blobs. */
export type Lane = 'metadata' | 'blob';

export interface UpstreamAgentsOptions {
  readonly tls: TlsOptions;
  readonly maxConnections: number;
  readonly proxies: Proxies;
  readonly authorities: Authorities;
}

/**
 * The kept connections of one upstream. Its own hosts and the hosts it redirects to are kept apart: the client
 * certificate and `insecureSkipVerify` are for the former only, and a connection that passed no address guard is never
 * reused for a redirect.
 */
export class UpstreamAgents implements Disposable {
  /** Presented to the upstream's own hosts: PEM text. */
  readonly certificate: string | undefined;
  readonly #own: Record<Lane, Agents>;
  readonly #foreign: Record<Lane, Agents>;

  /** @throws Error of the file system or of OpenSSL if a certificate or key cannot be read */
  constructor({ tls, maxConnections, proxies, authorities }: UpstreamAgentsOptions) {
    const ca = tls.ca === undefined ? undefined : readPem(tls.ca);
    const identity = {
      ...(tls.cert !== undefined && { cert: readPem(tls.cert) }),
      ...(tls.key !== undefined && { key: readPem(tls.key) }),
    };
    this.certificate = identity.cert;
    const trusted = () => (ca === undefined ? {} : { ca: [...authorities.certificates, ca] });
    const isPlain = ca === undefined && identity.cert === undefined && identity.key === undefined;
    // Configured certificates are read at once, so that a mistake shows at the start.
    const own = isPlain
      ? undefined
      : createSecureContext({ ca: [...authorities.certificates], ...trusted(), ...identity });
    const foreign = ca === undefined ? undefined : createSecureContext(trusted());
    const common = { proxies, maxConnections };
    const create = (context: typeof own, rejectUnauthorized: boolean): Record<Lane, Agents> => {
      const all = { ...common, secureContext: () => context ?? authorities.context, rejectUnauthorized };
      // Turns limit small answers; neutral requests need none.
      const most = FairPlaces.most(maxConnections) + neutralConnections;
      return { metadata: new Agents({ ...all, maxConnections: most }), blob: new Agents({ ...all, isBulk: true }) };
    };
    this.#own = create(own, tls.insecureSkipVerify !== true);
    this.#foreign = create(foreign, true);
  }

  /** @param options `url`: where to; `own`: whether it is a configured host */
  for(lane: Lane, { url, own }: { readonly url: URL; readonly own: boolean }): ChosenAgent {
    return (own ? this.#own : this.#foreign)[lane].for(url);
  }

  /** Closes all connections, including those in use. */
  [Symbol.dispose](): void {
    for (const lanes of [this.#own, this.#foreign]) {
      for (const agents of Object.values(lanes)) agents[Symbol.dispose]();
    }
  }
}

function readPem(value: string): string {
  return value.includes('-----BEGIN') ? value : readFileSync(value, 'utf8');
}
