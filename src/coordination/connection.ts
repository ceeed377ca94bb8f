import { createSecureContext, getCACertificates } from 'node:tls';
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';

/** Where Redis is. */
export type RedisLocation = {
  readonly tls: boolean;
  /** PEM texts of authorities to trust in addition to the default ones. */
  readonly ca?: string | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
} & (
  | { readonly kind: 'single'; readonly host: string; readonly port: number; readonly db: number }
  | {
      readonly kind: 'sentinel';
      readonly sentinels: readonly { readonly host: string; readonly port: number }[];
      readonly name: string;
      readonly db: number;
      /** Of the Sentinels, where they ask for it; that of Redis is another one. */
      readonly sentinelUsername?: string | undefined;
      readonly sentinelPassword?: string | undefined;
    }
  | { readonly kind: 'cluster'; readonly nodes: readonly { readonly host: string; readonly port: number }[] }
);

type RedisClient = Redis | Cluster;

/** Two connections with one login. */
export interface ConnectionPair {
  /** For questions. */
  readonly client: RedisClient;
  /** Hears of news. */
  readonly subscriber: RedisClient;
}

/** Longest wait for a connection, in milliseconds. */
export const connectMs = 1_000;

/** Clients that are not connected yet, and from then on connect again and again. */
export function connectPair(location: RedisLocation): ConnectionPair {
  return { client: connect(location), subscriber: connect(location) };
}

function connect(location: RedisLocation): RedisClient {
  const { tls, ca, username, password } = location;
  const authorities = ca === undefined ? undefined : [...getCACertificates('default'), ca];
  const secure = tls ? { tls: authorities ? { secureContext: createSecureContext({ ca: authorities }) } : {} } : {};
  const common = {
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // It is done when a connection is ready: the library does it once more, and nothing would handle a refusal.
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    connectTimeout: connectMs,
    keepAlive: 5_000,
    disableClientInfo: true,
    retryStrategy: () => 500,
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
    ...secure,
  } satisfies RedisOptions;
  switch (location.kind) {
    case 'single': {
      const { host, port, db } = location;
      return new Redis({ ...common, host, port, db });
    }
    case 'sentinel': {
      const { sentinels, name, db, sentinelUsername, sentinelPassword } = location;
      return new Redis({
        ...common,
        db,
        name,
        sentinels: sentinels.map((sentinel) => ({ ...sentinel })),
        sentinelRetryStrategy: () => 500,
        ...(sentinelUsername !== undefined && { sentinelUsername }),
        ...(sentinelPassword !== undefined && { sentinelPassword }),
        ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: secure.tls }),
      });
    }
    case 'cluster': {
      const options: ClusterOptions = {
        lazyConnect: true,
        enableOfflineQueue: false,
        clusterRetryStrategy: () => 500,
        redisOptions: common,
        // A name stays one: certificates are for names, and what it stands for may change.
        dnsLookup: (host, callback) => callback(null, host),
        slotsRefreshTimeout: connectMs,
        // A node of a cluster that cannot answer refuses at once: the others still answer.
        retryDelayOnClusterDown: 0,
        retryDelayOnFailover: 0,
        slotsRefreshInterval: 5_000,
      };
      return new Cluster(
        location.nodes.map((node) => ({ ...node })),
        options,
      );
    }
    default:
      return location satisfies never;
  }
}

/** Ends the connections. @param options `isForGood`: makes no new ones */
export function endPair({ client, subscriber }: ConnectionPair, { isForGood }: { isForGood: boolean }): void {
  for (const one of [client, subscriber]) {
    // A handshake that is cut may fail more than once, and the library listens once.
    for (const { stream } of one instanceof Cluster ? one.nodes() : [one]) stream?.on('error', () => undefined);
    one.disconnect(!isForGood);
  }
}
