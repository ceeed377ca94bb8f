import { Authorities } from '../transport/authorities.ts';
import { drain } from '../transport/body.ts';
import { Proxies, proxyInWords } from '../transport/proxies.ts';
import { AddressGuard } from './address-guard.ts';
import { UpstreamAgents } from './agents.ts';
import { Asker, resourceUrl } from './asking.ts';
import { Authenticator } from './auth.ts';
import type { RequestOptions } from './client.ts';
import { credentialSource, type SourceContext } from './credentials/create-source.ts';
import { ServiceClient } from './credentials/service-client.ts';
import { Slot, type TriedCredential, Wallet } from './credentials/wallet.ts';
import { credentialInWords } from './credentials/words.ts';
import { Endpoint } from './endpoint.ts';
import { ForeignTokens } from './foreign-tokens.ts';
import { HttpClient } from './http-client.ts';
import {
  defaultAnswerMs,
  defaultMaxConnections,
  defaultMaxManifestBytes,
  defaultProbeMs,
  defaultTimeouts,
  type UpstreamOptions,
} from './options.ts';
import { type GateObserver, type Heard, openGate, type Part } from './passage.ts';
import { Profile } from './profile.ts';
import { isCurrent, type RateLimit, readRateLimit } from './rate-limit.ts';
import { RegistryClient } from './registry-client.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { Upstream, UpstreamObserver } from './upstream.ts';
import { Walls } from './walls.ts';

/** What a mirror that is asked as an upstream is given less than is waited for it, in milliseconds. */
const wayBackMs = 2_000;

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
  const { name, environment = process.env, now = Date.now } = options;
  const urls = options.urls.map((text) => endpointUrl(text, name));
  if (urls.length === 0) throw new Error(`upstream ${name} has no URL`);
  const maxConnections = options.maxConnections ?? defaultMaxConnections;
  const proxies = options.proxies ?? new Proxies(environment);
  const authorities = options.authorities ?? new Authorities(environment);
  const agents = new UpstreamAgents({ tls: options.tls ?? {}, maxConnections, proxies, authorities });
  const services = new ServiceClient({ proxies, authorities });
  const guard = new AddressGuard(urls);
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const answerMs = options.answerMs ?? defaultAnswerMs;
  const fairWaitMs = Math.min(timeouts.headersMs, answerMs) / 2;
  const http = new HttpClient({ upstream: name, agents, guard, timeouts, fairWaitMs, recorder: options.recorder });
  const maxManifestBytes = options.maxManifestBytes ?? defaultMaxManifestBytes;
  let rateLimit: RateLimit | undefined;
  const currentRateLimit = () => {
    const [first] = places;
    if (first !== undefined && first.wallet.slots.length > 1) return first.wallet.rateLimit;
    return rateLimit && isCurrent(rateLimit, now()) ? rateLimit : undefined;
  };
  const observer = options.observer && gateObserver(name, options.observer);
  const common = {
    upstream: name,
    probeMs: options.probeMs ?? defaultProbeMs,
    now,
    observer,
    onClosed: options.onChange,
  };
  const shareOfRepository = Math.ceil(maxConnections / 4);
  const ping = async (url: URL, { signal }: { readonly signal: AbortSignal }): Promise<Heard> => {
    const headers = { accept: 'application/json' };
    const request = { method: 'GET', url, headers, lane: 'metadata', redirects: 'same-origin', signal } as const;
    const answer = await http.send({ ...request, gate: openGate });
    await drain(answer.body);
    return answer;
  };
  const within = () => AbortSignal.timeout(timeouts.headersMs);
  const places = urls.map((url) => {
    const profile = new Profile(options.traits);
    const place = { ...common, url: url.href, shareOfRepository };
    const root = resourceUrl(url.href, '');
    const walls = new Walls({
      ...place,
      service: 'registry',
      ping: () => ping(root, { signal: within() }),
      onAnswer: (headers) => {
        const told = readRateLimit(headers, now());
        if (told === undefined) return;
        rateLimit = told;
        options.onChange?.();
      },
    });
    const tokenWalls = new Walls({
      ...place,
      service: 'token service',
      ping: async () => {
        const address = authenticator.tokenService();
        return address && (await ping(address, { signal: within() }));
      },
    });
    const asking = { upstream: name, http, timeoutMs: timeouts.headersMs, now };
    const authenticator = new Authenticator({
      ...asking,
      endpoint: url,
      tokenRealms: options.tokenRealms ?? [],
      gate: (repository) => tokenWalls.gate('token', repository),
      profile,
      ping: async ({ signal }) => (await ping(root, { signal })).headers['www-authenticate'],
    });
    const wallet = walletOf(options, { upstream: name, host: url.host, endpoint: url, environment, services, now });
    const foreignTokens = new ForeignTokens(asking);
    const asker = new Asker({
      upstream: name,
      url: url.href,
      http,
      walls,
      authenticator,
      wallet,
      foreignTokens,
      now,
      chain: options.chain,
      waitMs: timeouts.headersMs - wayBackMs,
    });
    const endpoint = new Endpoint({
      upstream: name,
      url: url.href,
      asker,
      profile,
      maxManifestBytes,
      memory: options.memory,
    });
    return { endpoint, authenticator, wallet, walls, tokenWalls, profile };
  });
  return {
    name,
    aliases: options.aliases ?? [],
    hosts: options.hosts ?? [],
    freshness: options.freshness,
    maxConnections,
    connectionsPerBlob: Math.min(options.connectionsPerBlob ?? 1, maxConnections),
    answerMs,
    async fingerprint(mark) {
      const shown = places.map(async ({ endpoint, authenticator, wallet }) => [
        endpoint.url,
        ...(await Promise.all(wallet.slots.map((slot) => authenticator.identityOf(slot)))),
      ]);
      return mark(JSON.stringify([agents.certificate, ...(await Promise.all(shown))]));
    },
    allows: repositoryFilter(options.repositories ?? {}),
    client: new RegistryClient(places.map(({ endpoint }) => endpoint)),
    get isAvailable() {
      return places.some(({ walls, tokenWalls }) => walls.isOpen && tokenWalls.isOpen);
    },
    isAvailableFor: (repository) =>
      places.some(
        ({ walls, tokenWalls }) => walls.isOpenFor('blob', repository) && tokenWalls.isOpenFor('token', repository),
      ),
    get rateLimit() {
      return currentRateLimit();
    },
    get isSparing() {
      const { rateLimitFloor = 0 } = options;
      return rateLimitFloor > 0 && (currentRateLimit()?.remaining ?? Number.POSITIVE_INFINITY) <= rateLimitFloor;
    },
    status: () => ({
      endpoints: places.map(({ endpoint, wallet, walls, tokenWalls, profile }) => ({
        url: endpoint.url,
        ...walls.status(),
        tokenService: tokenWalls.status(),
        traits: profile.describe(),
        ...(options.credentials !== undefined && { credentials: wallet.status() }),
        proxy: proxyInWords(proxies.for(new URL(endpoint.url))),
      })),
      rateLimit: currentRateLimit(),
    }),
    pause({ url, service, forMs, part }) {
      for (const { endpoint, walls, tokenWalls } of places) {
        if (endpoint.url === url) (service === 'registry' ? walls : tokenWalls).pause({ forMs, part });
      }
    },
    async ping(asked) {
      const { status, headers } = await ping(resourceUrl(urls[0]!.href, ''), asked);
      return { status, contentType: headers['content-type'] };
    },
    tryCredentials: (asked) => places[0]!.wallet.tryAll(asked),
    [Symbol.dispose]: () => {
      services[Symbol.dispose]();
      agents[Symbol.dispose]();
    },
  };
}

function walletOf({ credentials, moreCredentials = [] }: UpstreamOptions, context: SourceContext): Wallet {
  const all = credentials === undefined ? [] : [credentials, ...moreCredentials];
  const slots = all.map((one) => new Slot(credentialInWords(one), credentialSource(one, context)));
  return new Wallet(slots.length === 0 ? [new Slot(credentialInWords(undefined), undefined)] : slots, context);
}

function gateObserver(upstream: string, observer: UpstreamObserver): GateObserver {
  return {
    closed: (event) => observer.closed(upstream, event),
    opened: (event) => observer.opened(upstream, event),
    refused: (event) => observer.refused(upstream, event),
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
