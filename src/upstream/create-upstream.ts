import { AddressGuard } from './address-guard.ts';
import { Agents } from './agents.ts';
import { Authenticator } from './auth.ts';
import { readCredential } from './credentials.ts';
import { Endpoint } from './endpoint.ts';
import type { Service } from './failures.ts';
import { Gate, type GateObserver, type GateOptions } from './gate.ts';
import { HttpClient } from './http-client.ts';
import {
  defaultAnswerMs,
  defaultMaxConnections,
  defaultMaxManifestBytes,
  defaultProbeMs,
  defaultTimeouts,
  type UpstreamOptions,
} from './options.ts';
import { isCurrent, type RateLimit, readRateLimit } from './rate-limit.ts';
import { RegistryClient } from './registry-client.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { Upstream, UpstreamObserver } from './upstream.ts';

/** An upstream with the connections it owns; disposing ends them, transfers under way too. */
export interface OwnedUpstream extends Upstream, Disposable {
  /** Another replica was asked for a pause at a URL or its token service. @param place `forMs`: how long it still lasts */
  pause(place: { readonly url: string; readonly service: string; readonly forMs: number }): void;
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
  const agents = new Agents({ tls: options.tls ?? {}, maxConnections, environment });
  const guard = new AddressGuard(urls);
  const timeouts = { ...defaultTimeouts, ...options.timeouts };
  const answerMs = options.answerMs ?? defaultAnswerMs;
  const fairWaitMs = Math.min(timeouts.headersMs, answerMs) / 2;
  const http = new HttpClient({ upstream: name, agents, guard, timeouts, fairWaitMs });
  const maxManifestBytes = options.maxManifestBytes ?? defaultMaxManifestBytes;
  let rateLimit: RateLimit | undefined;
  const currentRateLimit = () => (rateLimit && isCurrent(rateLimit, now()) ? rateLimit : undefined);
  const places = urls.map((url) => {
    const createGate = (service: Service, onAnswer?: GateOptions['onAnswer']) =>
      new Gate({
        upstream: name,
        service,
        url: url.href,
        probeMs: options.probeMs ?? defaultProbeMs,
        now,
        onAnswer,
        observer: options.observer && gateObserver(name, options.observer),
      });
    const gate = createGate('registry', (headers) => {
      rateLimit = readRateLimit(headers, now()) ?? rateLimit;
    });
    const tokenGate = createGate('token service');
    const authenticator = new Authenticator({
      upstream: name,
      endpoint: url,
      tokenRealms: options.tokenRealms ?? [],
      http,
      gate: tokenGate,
      timeoutMs: timeouts.headersMs,
      credential: () => readCredential(options.credentials, { upstream: name, host: url.host, environment }),
      now,
    });
    const endpoint = new Endpoint({
      upstream: name,
      url: url.href,
      http,
      gate,
      authenticator,
      maxManifestBytes,
      now,
    });
    return { endpoint, authenticator, gate, tokenGate };
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
      const shown = places.map(async ({ endpoint, authenticator }) => [endpoint.url, await authenticator.credential()]);
      return mark(JSON.stringify([agents.certificate, ...(await Promise.all(shown))]));
    },
    allows: repositoryFilter(options.repositories ?? {}),
    client: new RegistryClient(places.map(({ endpoint }) => endpoint)),
    get isAvailable() {
      return places.some(({ gate, tokenGate }) => gate.isOpen && tokenGate.isOpen);
    },
    get isSparing() {
      const { rateLimitFloor = 0 } = options;
      return rateLimitFloor > 0 && (currentRateLimit()?.remaining ?? Number.POSITIVE_INFINITY) <= rateLimitFloor;
    },
    status: () => ({
      endpoints: places.map(({ endpoint, gate, tokenGate }) => ({
        url: endpoint.url,
        ...gate.status(),
        tokenService: tokenGate.status(),
      })),
      rateLimit: currentRateLimit(),
    }),
    pause({ url, service, forMs }) {
      for (const { endpoint, gate, tokenGate } of places) {
        if (endpoint.url === url) (service === 'registry' ? gate : tokenGate).pause(forMs);
      }
    },
    [Symbol.dispose]: () => agents.close(),
  };
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
