import { createUpstream, type OwnedUpstream } from './create-upstream.ts';
import { defaultAnswerMs, defaultMaxConnections, type UpstreamOptions } from './options.ts';
import { Profile } from './profile.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { UpstreamStatus } from './upstream.ts';

/**
 * An upstream as {@link createUpstream} makes it, made when it is asked for something: of thousands that are configured
 * most are never pulled from. One with certificates is made at once, so that those that cannot be used are refused.
 * @throws Error as {@link createUpstream}
 */
export function lazyUpstream(options: UpstreamOptions): OwnedUpstream {
  const { name, aliases = [], hosts = [], freshness, urls, tls = {}, repositories = {} } = options;
  const { maxConnections = defaultMaxConnections, answerMs = defaultAnswerMs } = options;
  if (tls.ca !== undefined || tls.cert !== undefined || tls.key !== undefined) return createUpstream(options);
  let made: OwnedUpstream | undefined;
  let filter: ((repository: string) => boolean) | undefined;
  const make = (): OwnedUpstream => (made ??= createUpstream(options));
  return {
    name,
    aliases,
    hosts,
    freshness,
    maxConnections,
    connectionsPerBlob: Math.min(options.connectionsPerBlob ?? 1, maxConnections),
    answerMs,
    fingerprint: (mark) => make().fingerprint(mark),
    allows: (repository) => (filter ??= repositoryFilter(repositories))(repository),
    get client() {
      return make().client;
    },
    get isAvailable() {
      return made?.isAvailable ?? true;
    },
    isAvailableFor: (repository) => made?.isAvailableFor(repository) ?? true,
    get rateLimit() {
      return made?.rateLimit;
    },
    get isSparing() {
      return made?.isSparing ?? false;
    },
    status: () => made?.status() ?? untouched(urls, new Profile(options.traits)),
    pause: (place) => make().pause(place),
    ping: (asked) => make().ping(asked),
    tryCredentials: (asked) => make().tryCredentials(asked),
    [Symbol.dispose]: () => made?.[Symbol.dispose](),
  };
}

/** The status of an upstream that was never asked for anything. */
function untouched(urls: readonly string[], profile: Profile): UpstreamStatus {
  return {
    endpoints: urls.map((url) => ({
      url: new URL(url).href,
      state: 'available',
      tokenService: { state: 'available' },
      traits: profile.describe(),
    })),
  };
}
