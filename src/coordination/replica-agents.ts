import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';

/** PEM texts: the certificate presented to other replicas, and the authorities of theirs. */
export interface PeerTls {
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly ca?: string | undefined;
}

/** Connections to other replicas, kept for the next request. */
export class ReplicaAgents implements Disposable {
  readonly #maxFreeSockets: number;
  readonly #http: HttpAgent;
  #https: HttpsAgent;
  /** Agents with former certificates: transfers in progress continue. */
  readonly #former: HttpsAgent[] = [];

  /** @param options `maxFreeSockets`: the most connections to one replica that are kept while nothing uses them */
  constructor({ tls = {}, maxFreeSockets }: { readonly tls?: PeerTls | undefined; readonly maxFreeSockets: number }) {
    this.#maxFreeSockets = maxFreeSockets;
    this.#http = new HttpAgent({ keepAlive: true, maxFreeSockets });
    this.#https = this.#httpsAgent(tls);
  }

  /** The agent for a URL of a replica. */
  for({ protocol }: URL): HttpAgent | HttpsAgent {
    return protocol === 'https:' ? this.#https : this.#http;
  }

  /** Uses other certificates for new connections. */
  renew(tls: PeerTls): void {
    this.#former.push(this.#https);
    this.#https = this.#httpsAgent(tls);
  }

  /** Closes every connection. */
  [Symbol.dispose](): void {
    for (const agent of [this.#http, this.#https, ...this.#former]) agent.destroy();
  }

  #httpsAgent({ cert, key, ca }: PeerTls): HttpsAgent {
    return new HttpsAgent({ keepAlive: true, maxFreeSockets: this.#maxFreeSockets, cert, key, ca });
  }
}
