import type { InForce } from './in-force.ts';
import type { ParsedConfig } from './schema.ts';
import type { freshness, tagTimes, upstreamTimeouts } from './times-schema.ts';
import type { ParsedUpstream } from './upstream-schema.ts';

/** An upstream with its name, and with what it takes from wider sections. */
export type CompleteUpstream = Omit<ParsedUpstream, 'urls' | 'tags' | 'timeouts' | keyof typeof freshness> &
  Pick<ParsedConfig['cache'], keyof typeof freshness> & {
    readonly name: string;
    /** At least one, `http` or `https`, without a slash at the end. */
    readonly urls: readonly string[];
    /** The first that matches decides. */
    readonly tags: readonly CompleteTagRule[];
    readonly timeouts: Pick<ParsedConfig['timeouts'], keyof typeof upstreamTimeouts>;
  };

type CompleteTagRule = Omit<ParsedUpstream['tags'][number], keyof typeof tagTimes> &
  Pick<ParsedConfig['cache'], keyof typeof tagTimes>;

/** The written settings, completed with defaults. */
export type CompleteConfig = Omit<ParsedConfig, 'upstreams' | 'defaultUpstream'> & {
  /** The closed table, in the order written. Names, aliases and hosts are unique across it. */
  readonly upstreams: readonly CompleteUpstream[];
  /** Name (never an alias) of the upstream of a request that names none. */
  readonly defaultUpstream: string | undefined;
};

/**
 * The configuration in effect, as plain data. The keys and their meanings are those of the schema (schema.ts); a
 * quantity's key ends in its unit. Names are in lower case, paths absolute.
 */
export type Config = InForce<CompleteConfig>;

/** One entry of the table of upstreams. */
export type UpstreamConfig = Config['upstreams'][number];

/** Where an upstream's credentials come from: a user name and one of the three passwords, or `dockerConfig` alone. */
export type UpstreamAuth = NonNullable<UpstreamConfig['auth']>;

/** Images that are brought here on a schedule: exactly one of `schedule` and `everyMs`, at least one of `images` and `file`. */
export type PrefetchConfig = Config['prefetch'][number];

export type RedisConfig = NonNullable<Config['redis']>;
