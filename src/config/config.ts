import type { ImageEntry } from './image-list-schema.ts';
import type { RedisLocation } from './redis-url.ts';
import type { Schedule } from './schedule.ts';
import type { Secret } from './secret.ts';
import type { ListenAddress } from './value-kinds.ts';

/** What is in force: plain data, sizes in bytes, times in milliseconds, names in lower case, paths absolute. */
export interface Config {
  readonly listen: ListenAddress;
  /** `undefined`: plain HTTP. */
  readonly tls: ServerTlsConfig | undefined;
  /** Name (never an alias) of the upstream of a request that names none. */
  readonly defaultUpstream: string | undefined;
  readonly cache: CacheConfig;
  /** No upstream is ever contacted. */
  readonly offline: boolean;
  /** The closed table, in the order written. Names, aliases and hosts are unique across it. */
  readonly upstreams: readonly UpstreamConfig[];
  /** Of the process; each upstream carries its own with these as defaults. */
  readonly timeouts: UpstreamTimeouts & {
    /** How long running transfers may go on after SIGTERM. */
    readonly drainMs: number;
    /** A client that takes nothing of what waits for it is cut after this. */
    readonly clientIdleMs: number;
  };
  readonly log: LogConfig;
  /** `undefined`: one process alone. */
  /** In the order written. */
  readonly prefetch: readonly PrefetchConfig[];
  readonly redis: RedisConfig | undefined;
  readonly cluster: ClusterConfig;
}

export interface RedisConfig {
  readonly location: RedisLocation;
  readonly passwordFile: string | undefined;
  readonly sentinelUsername: string | undefined;
  readonly sentinelPasswordFile: string | undefined;
  readonly caFile: string | undefined;
  readonly keyPrefix: string;
}

export interface ClusterConfig {
  /** `undefined`: the address that is listened on. */
  readonly advertise: string | undefined;
  readonly secretFile: string | undefined;
  readonly placement: 'everywhere' | 'sharded';
  readonly copies: number;
  readonly clockToleranceMs: number;
}

export interface ServerTlsConfig {
  readonly certFile: string;
  readonly keyFile: string;
  /** Present: clients must show a certificate signed by one of these. */
  readonly clientCaFile: string | undefined;
}

export interface CacheConfig extends FreshnessConfig {
  readonly dir: string;
  readonly maxSizeBytes: number;
  readonly minFreeBytes: number;
  readonly maxManifestSizeBytes: number;
  /** Bytes of small objects kept in memory. */
  readonly memoryBytes: number;
  /** Blobs fetched at a time. */
  readonly maxFills: number;
  /** From the end of one scrub to the next; 0: never. */
  readonly scrubEveryMs: number;
  readonly scrubBytesPerSecond: number;
  /** Names and patterns of images that are kept, as written. */
  readonly pins: readonly string[];
}

export interface TagTimesConfig {
  readonly tagTtlMs: number;
  readonly staleWhileRevalidateMs: number;
  readonly staleIfErrorMs: number;
}

export interface FreshnessConfig extends TagTimesConfig {
  readonly negativeTtlMs: number;
}

/** Times of their own for the tags that a pattern matches. */
export interface TagRuleConfig extends TagTimesConfig {
  /** Over the tag: `*` stands for any characters. */
  readonly match: string;
  /** Patterns over repository names, as in {@link RepositoryRules}; none: every repository. */
  readonly repositories: readonly string[];
}

export interface UpstreamConfig {
  readonly name: string;
  /** At least one, `http` or `https`, without a slash at the end. */
  readonly urls: readonly string[];
  readonly aliases: readonly string[];
  readonly hosts: readonly string[];
  /** `undefined`: anonymous. */
  readonly auth: UpstreamAuth | undefined;
  /** Further hosts, with a port where one was written, that may be given the credentials. */
  readonly tokenRealms: readonly string[];
  readonly tls: UpstreamTlsConfig;
  readonly freshness: FreshnessConfig;
  /** The first that matches decides; each carries the upstream's times where it says nothing. */
  readonly tags: readonly TagRuleConfig[];
  readonly maxConnections: number;
  readonly connectionsPerBlob: number;
  /** Remaining pulls at or below which the upstream is spared; 0: never. */
  readonly rateLimitFloor: number;
  readonly repositories: RepositoryRules;
  readonly timeouts: UpstreamTimeouts;
}

/** Where an upstream's credentials come from. */
export type UpstreamAuth =
  | { readonly kind: 'password'; readonly username: string; readonly password: Secret }
  | { readonly kind: 'passwordFile'; readonly username: string; readonly path: string }
  | { readonly kind: 'passwordEnv'; readonly username: string; readonly variable: string }
  | { readonly kind: 'dockerConfig'; readonly path: string };

export interface UpstreamTlsConfig {
  readonly caFile: string | undefined;
  readonly certFile: string | undefined;
  readonly keyFile: string | undefined;
  readonly insecureSkipVerify: boolean;
}

/** Patterns over repository names: `*` within one part, `**` over any number of parts. `deny` wins. */
export interface RepositoryRules {
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

export interface UpstreamTimeouts {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly idleMs: number;
  /** A client has headers or an error within this, whatever the upstream does. */
  readonly answerMs: number;
}

export interface LogConfig {
  readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  readonly format: 'json' | 'text';
}

/** Images that are brought here on a schedule; at least one of `images` and `file` says which. */
export interface PrefetchConfig {
  readonly schedule: Schedule;
  readonly images: readonly ImageEntry[];
  /** A list of images that is read each time. */
  readonly file: string | undefined;
  /** None: all. */
  readonly platforms: readonly string[] | undefined;
  readonly referrers: boolean;
}
