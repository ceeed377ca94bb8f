import type { Authorities } from '../transport/authorities.ts';
import type { CountedMemory } from '../transport/body.ts';
import type { Chain } from '../transport/chain.ts';
import type { Environment, Proxies } from '../transport/proxies.ts';
import type { CredentialOptions } from './credentials/options.ts';
import type { Traits } from './profile.ts';
import type { ExchangeRecorder } from './recorder.ts';
import type { Freshness, UpstreamEvent } from './upstream.ts';

/** TLS of an upstream; each value is PEM text or the path of a PEM file. */
export interface TlsOptions {
  /** Authorities trusted beside those of the system. */
  readonly ca?: string;
  /** Client certificate and key, shown to the upstream's own hosts only. */
  readonly cert?: string;
  readonly key?: string;
  /** Certificates of the upstream's own hosts are not checked. Redirect targets are checked all the same. */
  readonly insecureSkipVerify?: boolean;
}

/** How long each step of a request to an upstream may take, in milliseconds. */
export interface UpstreamTimeouts {
  /** Each of: resolving the name, connecting, the TLS handshake. */
  readonly connectMs: number;
  /** From the request's turn to the headers of its last answer, redirects included. */
  readonly headersMs: number;
  /** Silence in the middle of a body, counted only while bytes are wanted. */
  readonly idleMs: number;
}

/** Counts what arrives whole in memory, and refuses what one upstream must not take of it. */
export interface ArrivingMemory {
  readonly manifests: CountedMemory;
  readonly lists: CountedMemory;
}

/** All that one upstream is configured with; plain data, so that the composition root can map configuration to it. */
export interface UpstreamOptions {
  readonly name: string;
  /** Endpoints, tried in order; a path before `/v2/` is kept, one that begins with `/v2/` is continued. */
  readonly urls: readonly string[];
  readonly aliases?: readonly string[];
  readonly hosts?: readonly string[];
  readonly credentials?: CredentialOptions;
  /** Further ones, used in turn with it where one is limited. */
  readonly moreCredentials?: readonly CredentialOptions[];
  /** Hosts (with or without port) of other domains that may be given this upstream's credentials. */
  readonly tokenRealms?: readonly string[];
  readonly tls?: TlsOptions;
  /** Most connections to one host at a time for blobs, and as many again for everything small. Default 32. */
  readonly maxConnections?: number;
  readonly freshness: Freshness;
  /** Globs over repository names without the upstream's name: `*` within a part, `**` across parts. */
  readonly repositories?: { readonly allow?: readonly string[]; readonly deny?: readonly string[] };
  readonly timeouts?: Partial<UpstreamTimeouts>;
  /** Connections that one large blob is fetched with; worth more than 1 where each gets a share of its own. Default 1. */
  readonly connectionsPerBlob?: number;
  /** How long an answer may take, all URLs, tokens and redirects together, in milliseconds. Default 9,000. */
  readonly answerMs?: number;
  /** Remaining pulls at or below which the upstream is to be spared (`isSparing`). Default 0: never. */
  readonly rateLimitFloor?: number;
  /** How long a URL that fails to answer is left alone before one request tries it, in milliseconds. Default 5,000. */
  readonly probeMs?: number;
  /** How its URLs behave, where that is not to be found out. */
  readonly traits?: Partial<Traits>;
  /** Receives what happens to it; it must not throw. */
  readonly report?: (event: UpstreamEvent) => void;
  /** Called when something of it is not asked any more, and when it has said how many pulls are left. */
  readonly onChange?: () => void;
  /** Watches every exchange; absent: none is watched. */
  readonly recorder?: ExchangeRecorder;
  /** Largest manifest accepted. Default 4 MiB. */
  readonly maxManifestBytes?: number;
  /** Counts manifests and lists while they arrive; absent: nothing does. */
  readonly memory?: ArrivingMemory | undefined;
  /** For proxies, authorities (`SSL_CERT_FILE`) and credentials. Default `process.env`. */
  readonly environment?: Environment;
  /** The authorities that are trusted; default: those that the environment names, read for this upstream alone. */
  readonly authorities?: Authorities;
  /** The proxies that are used; default: those that the environment names. */
  readonly proxies?: Proxies;
  /** This mirror's place among others that ask one another; absent: none. */
  readonly chain?: Chain;
  /** Wall clock in milliseconds. Default `Date.now`. */
  readonly now?: () => number;
}

export const defaultTimeouts: UpstreamTimeouts = { connectMs: 5_000, headersMs: 8_000, idleMs: 30_000 };
export const defaultAnswerMs = 9_000;
export const defaultProbeMs = 5_000;
export const defaultMaxConnections = 32;
export const defaultMaxManifestBytes = 4 * 1024 * 1024;
