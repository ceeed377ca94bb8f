import { Authorities } from '../transport/authorities.ts';
import { Proxies, proxyInWords } from '../transport/proxies.ts';
import { AddressGuard } from './address-guard.ts';
import { UpstreamAgents } from './agents.ts';
import { resourceUrl } from './asking.ts';
import type { RequestOptions } from './client.ts';
import { ServiceClient } from './credentials/service-client.ts';
import type { TriedCredential } from './credentials/wallet.ts';
import { HttpClient } from './http-client.ts';
import { defaultAnswerMs, defaultMaxConnections, defaultTimeouts, type UpstreamOptions } from './options.ts';
import type { Heard, Part } from './passage.ts';
import { openPlace, type Place, ping } from './place.ts';
import { isCurrent, type RateLimit, readRateLimit } from './rate-limit.ts';
import { RegistryClient } from './registry-client.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { Upstream, UpstreamStatus } from './upstream.ts';

/** An upstream with the connections it owns; disposing ends them, transfers under way too. */
export interface OwnedUpstream extends Upstream, Disposable {
  /** Asks for `/v2/` of the first URL, without credentials (distribution-spec, "Determining Support"). */
  ping(options: RequestOptions): Promise<{ readonly status: number; readonly contentType: string | undefined }>;
  /** Obtains each credential of the first URL. @returns where each comes from, in words, and why it cannot be had */
  tryCredentials(options: RequestOptions): Promise<readonly TriedCredential[]>;
  /** Another replica was asked for a pause at a URL or its token service. @param place `forMs`: how long it still lasts */
  pause(place: { readonly url: string; readonly service: string; readonly forMs: number; readonly part?: Part }): void;
}

/**
 * Builds an upstream from plain data. Nothing is dialled until it is asked for something.
 * @throws Error where a URL or a certificate cannot be used
 */
export function createUpstream(options: UpstreamOptions): OwnedUpstream {
  const { name, environment = process.env, now = Date.now, maxConnections = defaultMaxConnections } = options;
  const { answerMs = defaultAnswerMs, rateLimitFloor = 0 } = options;
  const urls = options.urls.map((text) => endpointUrl(text, name));
  if (urls.length === 0) throw new Error(`upstream ${name} has no URL`);
  const { agents, services, http, headersMs, proxies } = connectionsOf(options, urls);
  const pulls = new PullBudget({ now, onChange: options.onChange });
  const onAnswer = (headers: Heard['headers']) => pulls.note(headers);
  const turns = { connections: maxConnections, shareOfRepository: Math.ceil(maxConnections / 4) };
  const shared = { http, headersMs, turns, now, environment, services, onAnswer };
  const places = urls.map((url) => openPlace(url, options, shared));
  const [first] = places as [Place, ...Place[]];
  const rateLimit = () => (first.wallet.slots.length > 1 ? first.wallet.rateLimit : pulls.current);

  return {
    name,
    aliases: options.aliases ?? [],
    hosts: options.hosts ?? [],
    freshness: options.freshness,
    maxConnections,
    connectionsPerBlob: Math.min(options.connectionsPerBlob ?? 1, maxConnections),
    answerMs,
    allows: repositoryFilter(options.repositories ?? {}),
    client: new RegistryClient(places.map(({ endpoint }) => endpoint)),
    fingerprint: (mark) => fingerprintOf(places, { certificate: agents.certificate, mark }),
    get isAvailable() {
      return places.some(({ walls, tokenWalls }) => walls.isOpen && tokenWalls.isOpen);
    },
    isAvailableFor: (repository) => places.some((place) => isOpenFor(place, repository)),
    get rateLimit() {
      return rateLimit();
    },
    get isSparing() {
      return rateLimitFloor > 0 && (rateLimit()?.remaining ?? Number.POSITIVE_INFINITY) <= rateLimitFloor;
    },
    status: () => ({
      endpoints: places.map((place) => statusOf(place, { proxies, hasCredentials: options.credentials !== undefined })),
      rateLimit: rateLimit(),
    }),
    pause({ url, service, forMs, part }) {
      const asked = places.filter(({ endpoint }) => endpoint.url === url);
      for (const place of asked) (service === 'registry' ? place.walls : place.tokenWalls).pause({ forMs, part });
    },
    async ping({ signal }) {
      const { status, headers } = await ping(http, resourceUrl(first.endpoint.url, ''), signal);
      return { status, contentType: headers['content-type'] };
    },
    tryCredentials: (asked) => first.wallet.tryAll(asked),
    [Symbol.dispose]() {
      services[Symbol.dispose]();
      agents[Symbol.dispose]();
    },
  };
}

/** The connections to an upstream and to the services that give credentials for it. */
function connectionsOf(options: UpstreamOptions, urls: readonly URL[]) {
  const { environment = process.env, maxConnections = defaultMaxConnections, answerMs = defaultAnswerMs } = options;
  const { proxies = new Proxies(environment), authorities = new Authorities(environment) } = options;
  const agents = new UpstreamAgents({ tls: options.tls ?? {}, maxConnections, proxies, authorities });
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const { headersMs } = timeouts;
  const http = new HttpClient({
    upstream: options.name,
    agents,
    guard: new AddressGuard(urls),
    timeouts,
    fairWaitMs: Math.min(headersMs, answerMs) / 2,
    recorder: options.recorder,
  });
  return { agents, services: new ServiceClient({ proxies, authorities }), http, headersMs, proxies };
}

/** How many pulls an upstream has said are left. */
class PullBudget {
  readonly #now: () => number;
  readonly #onChange: (() => void) | undefined;
  #told: RateLimit | undefined;

  constructor({ now, onChange }: { now: () => number; onChange: (() => void) | undefined }) {
    this.#now = now;
    this.#onChange = onChange;
  }

  /** The limit that the upstream stated last, as long as it holds. */
  get current(): RateLimit | undefined {
    return this.#told && isCurrent(this.#told, this.#now()) ? this.#told : undefined;
  }

  /** Notes what the headers of an answer say, if they say anything. */
  note(headers: Heard['headers']): void {
    const told = readRateLimit(headers, this.#now());
    if (told === undefined) return;
    this.#told = told;
    this.#onChange?.();
  }
}

/** Identifies how an upstream is asked: by its URLs, and what they are shown. */
async function fingerprintOf(
  places: readonly Place[],
  { certificate, mark }: { certificate: unknown; mark: (text: string) => string },
): Promise<string> {
  const shown = places.map(async ({ endpoint, authenticator, wallet }) => [
    endpoint.url,
    ...(await Promise.all(wallet.slots.map((slot) => authenticator.identityOf(slot)))),
  ]);
  return mark(JSON.stringify([certificate, ...(await Promise.all(shown))]));
}

function isOpenFor({ walls, tokenWalls }: Place, repository: string): boolean {
  return walls.isOpenFor('blob', repository) && tokenWalls.isOpenFor('token', repository);
}

function statusOf(
  { endpoint, wallet, walls, tokenWalls, profile }: Place,
  { proxies, hasCredentials }: { proxies: Proxies; hasCredentials: boolean },
): UpstreamStatus['endpoints'][number] {
  return {
    url: endpoint.url,
    ...walls.status(),
    tokenService: tokenWalls.status(),
    traits: profile.describe(),
    ...(hasCredentials && { credentials: wallet.status() }),
    proxy: proxyInWords(proxies.for(new URL(endpoint.url))),
  };
}

function endpointUrl(text: string, upstream: string): URL {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new Error(`a URL of upstream ${upstream} is not an http or https address`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new Error(`a URL of upstream ${upstream} carries credentials; they belong under upstreams.${upstream}.auth`);
  }
  if (url.search !== '' || url.hash !== '') throw new Error(`a URL of upstream ${upstream} has a query or a fragment`);
  return url;
}
