import type { UpstreamClient } from './client.ts';
import type { CredentialStatus } from './credentials/wallet.ts';
import type { GateEvent, GateStatus, PartStatus } from './passage.ts';
import type { Profile } from './profile.ts';
import type { RateLimit } from './rate-limit.ts';

/** How long what an upstream said of a tag holds, in milliseconds. */
export interface TagTimes {
  /** How long a tag → digest answer is used without asking. */
  readonly tagTtlMs: number;
  /** How long past that it is still served at once, while the upstream is asked behind it; absent: not at all. */
  readonly staleWhileRevalidateMs?: number;
  /** How long past `tagTtlMs` it may be served when the upstream cannot answer. */
  readonly staleIfErrorMs: number;
}

/** Times of their own for some tags. */
export interface TagRule extends TagTimes {
  /** The patterns, as configured. */
  readonly match: string;
  readonly repositories: readonly string[];
  matches(repository: string, tag: string): boolean;
}

/** How long what an upstream said holds, in milliseconds. */
export interface Freshness extends TagTimes {
  /** How long a 404 is remembered. */
  readonly negativeTtlMs: number;
  /** The first that matches a tag decides in place of the times above. */
  readonly tags?: readonly TagRule[];
}

/** A registry we pull from. */
export interface Upstream {
  /** Its canonical name (`docker.io`), the first part of every repository's key in the cache. */
  readonly name: string;
  /** Other names that clients use for it. */
  readonly aliases: readonly string[];
  /** Values of a request's `Host` that mean it. */
  readonly hosts: readonly string[];
  readonly freshness: Freshness;
  /** How long it may take to answer, all its URLs, tokens and redirects together, in milliseconds. */
  readonly answerMs: number;
  /** Connections to one of its hosts at a time for blobs; of all replicas together, where there are some. */
  readonly maxConnections: number;
  /** Connections that one large blob may be fetched with at a time. */
  readonly connectionsPerBlob: number;
  /**
   * A fingerprint of all that decides what it lets us read: its URLs, and the credentials that each is shown now.
   * @param mark makes it of a text that has to stay secret
   * @throws RegistryError UNAVAILABLE where credentials cannot be read
   */
  fingerprint(mark: (text: string) => string): Promise<string>;
  /** Whether the operator lets this repository be pulled. */
  allows(repository: string): boolean;
  readonly client: UpstreamClient;
  /**
   * Whether its remaining pulls are at or below the configured floor: only what is not stored may spend pulls then.
   * False as long as it has not said how many remain, and once the window for which it said so is over.
   */
  readonly isSparing: boolean;
  /** The pulls it has left for us; `undefined` where it has not said, or not for as long as its window lasts. */
  readonly rateLimit: RateLimit | undefined;
  /** Whether one of its URLs can be asked now, as {@link isAvailable} of {@link status}, without a word on why. */
  readonly isAvailable: boolean;
  /** Whether the blobs of a repository can be asked for now, as far as is known. */
  isAvailableFor(repository: string): boolean;
  /** Whether it can be asked now. */
  status(): UpstreamStatus;
}

/** The status of an upstream; known without a request. */
export interface UpstreamStatus {
  /** Each URL, in the order they are tried. */
  readonly endpoints: readonly EndpointStatus[];
  /** The pulls it has left for us; absent where it has not said, or not for as long as its window lasts. */
  readonly rateLimit?: RateLimit;
}

/** Whether one URL can be asked. */
export interface EndpointStatus extends GateStatus {
  /** Without credentials. */
  readonly url: string;
  /** The parts of single repositories that are not asked for now. */
  readonly parts?: readonly PartStatus[];
  /** Of where its tokens come from; without it, only what needs no token or has one still can be asked for. */
  readonly tokenService: GateStatus & { readonly parts?: readonly PartStatus[] };
  /** Its traits, learned or configured, where they differ from what registries do. */
  readonly traits: ReturnType<Profile['describe']>;
  /** The credentials that it is sent; absent or empty: none are configured. */
  readonly credentials?: readonly CredentialStatus[];
  /** The proxy that it is asked through, without user and password. */
  readonly proxy?: string | undefined;
}

/** The events of the gates before an upstream's URLs and token services. */
export type UpstreamEvent = GateEvent & { readonly upstream: string };

/** Whether something of an upstream can be asked for through one of its URLs at least. */
export function isAvailable({ endpoints }: UpstreamStatus): boolean {
  return endpoints.some(({ state, tokenService }) => state === 'available' && tokenService.state === 'available');
}
