import { AddressGuard } from './address-guard.ts';
import { Agents } from './agents.ts';
import { Authenticator } from './auth.ts';
import { readCredential } from './credentials.ts';
import { Endpoint } from './endpoint.ts';
import { HttpClient } from './http-client.ts';
import {
  defaultAnswerMs,
  defaultMaxConnections,
  defaultMaxManifestBytes,
  defaultTimeouts,
  type UpstreamOptions,
} from './options.ts';
import { RegistryClient } from './registry-client.ts';
import { repositoryFilter } from './repository-rules.ts';
import type { Upstream } from './upstream.ts';

/** An upstream with the connections it owns; disposing ends them, transfers under way too. */
export type OwnedUpstream = Upstream & Disposable;

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
  const http = new HttpClient({ upstream: name, agents, guard, timeouts });
  const maxManifestBytes = options.maxManifestBytes ?? defaultMaxManifestBytes;
  const endpoints = urls.map((url) => {
    const authenticator = new Authenticator({
      upstream: name,
      endpoint: url,
      tokenRealms: options.tokenRealms ?? [],
      http,
      timeoutMs: timeouts.headersMs,
      credential: () => readCredential(options.credentials, { upstream: name, host: url.host, environment }),
      now,
    });
    return new Endpoint({ upstream: name, url: url.href, http, authenticator, maxManifestBytes, now });
  });
  return {
    name,
    aliases: options.aliases ?? [],
    hosts: options.hosts ?? [],
    freshness: options.freshness,
    answerMs: options.answerMs ?? defaultAnswerMs,
    connectionsPerBlob: Math.min(options.connectionsPerBlob ?? 1, maxConnections),
    allows: repositoryFilter(options.repositories ?? {}),
    client: new RegistryClient(endpoints),
    [Symbol.dispose]: () => agents.close(),
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
