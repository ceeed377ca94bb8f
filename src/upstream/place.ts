import { drain } from '../transport/body.ts';
import { Asker, resourceUrl } from './asking.ts';
import { Authenticator } from './auth.ts';
import { credentialSource, type SourceContext } from './credentials/create-source.ts';
import { Slot, Wallet } from './credentials/wallet.ts';
import { credentialInWords } from './credentials/words.ts';
import { Endpoint } from './endpoint.ts';
import { unavailable } from './failures.ts';
import { ForeignTokens } from './foreign-tokens.ts';
import { serverFailures } from './gate.ts';
import type { HttpClient } from './http-client.ts';
import { defaultAnswerMs, defaultMaxManifestBytes, defaultProbeMs, type UpstreamOptions } from './options.ts';
import { type GateEvent, type Heard, openGate } from './passage.ts';
import { Profile } from './profile.ts';
import type { TurnsOptions } from './turns.ts';
import { Walls } from './walls.ts';

/** The part of the time for an answer after which a HEAD that was not answered gets a GET beside it. */
const headShare = 1 / 2;

/** A mirror that is the upstream gets so much less time than this one waits for it, in milliseconds. */
const wayBackMs = 2_000;

/** One URL of an upstream with its token service: what stands before it, what it is shown, and what it is asked with. */
export interface Place {
  readonly endpoint: Endpoint;
  readonly authenticator: Authenticator;
  readonly wallet: Wallet;
  /** The gates of the URL. */
  readonly walls: Walls;
  /** Those of its token service. */
  readonly tokenWalls: Walls;
  readonly profile: Profile;
}

/** The parts that all URLs of an upstream share. */
export interface SharedParts extends Pick<SourceContext, 'environment' | 'services'> {
  readonly http: HttpClient;
  readonly headersMs: number;
  /** Requests for small answers at a time. */
  readonly turns: TurnsOptions;
  readonly now: () => number;
  /** Receives the headers of each answer of a URL. */
  readonly onAnswer: (headers: Heard['headers']) => void;
}

/** Builds the place of one URL. Nothing is sent until it is asked for something. */
export function openPlace(url: URL, options: UpstreamOptions, shared: SharedParts): Place {
  const { name: upstream } = options;
  const { http, headersMs, now, environment, services } = shared;
  const profile = new Profile(options.traits);
  const root = resourceUrl(url.href, '');
  const within = () => AbortSignal.timeout(headersMs);

  const guarded = { ...gateOptions(options), url: url.href, turns: shared.turns, now };
  const walls = new Walls({
    ...guarded,
    service: 'registry',
    ping: () => ping(http, root, within()),
    onAnswer: shared.onAnswer,
  });
  const tokenWalls = new Walls({
    ...guarded,
    service: 'token service',
    ping: async () => {
      const address = authenticator.tokenService();
      return address && (await ping(http, address, within()));
    },
  });

  const asking = { upstream, http, timeoutMs: headersMs, now };
  const authenticator = new Authenticator({
    ...asking,
    endpoint: url,
    tokenRealms: options.tokenRealms ?? [],
    gate: (repository) => tokenWalls.gate('token', repository),
    profile,
    ping: async ({ signal }) => {
      const { status, headers } = await ping(http, root, signal);
      // A temporary failure does not say which credentials the upstream demands.
      if (serverFailures.has(status) || status === 429) throw unavailable(upstream, `answered ${status}`);
      return headers['www-authenticate'];
    },
  });
  const wallet = walletOf(options, { upstream, host: url.host, endpoint: url, environment, services, now });

  const asker = new Asker({
    upstream,
    url: url.href,
    http,
    walls,
    authenticator,
    wallet,
    foreignTokens: new ForeignTokens(asking),
    now,
    chain: options.chain,
    waitMs: headersMs - wayBackMs,
  });
  const { memory, maxManifestBytes = defaultMaxManifestBytes } = options;
  const patienceMs = Math.min(headersMs, options.answerMs ?? defaultAnswerMs) * headShare;
  const endpoint = new Endpoint({ upstream, url: url.href, asker, profile, maxManifestBytes, patienceMs, memory });
  return { endpoint, authenticator, wallet, walls, tokenWalls, profile };
}

/** Asks for an address without credentials, past every gate: whether anything answers there. */
export async function ping(http: HttpClient, url: URL, signal: AbortSignal): Promise<Heard> {
  const headers = { accept: 'application/json' };
  const request = { method: 'GET', url, headers, lane: 'metadata', redirects: 'same-origin', signal } as const;
  const answer = await http.send({ ...request, gate: openGate });
  await drain(answer.body);
  return answer;
}

function gateOptions({ name, probeMs = defaultProbeMs, report, onChange }: UpstreamOptions) {
  return {
    upstream: name,
    probeMs,
    report: report && ((event: GateEvent) => report({ ...event, upstream: name })),
    onClosed: onChange,
  };
}

function walletOf({ credentials, moreCredentials = [] }: UpstreamOptions, context: SourceContext): Wallet {
  const all = credentials === undefined ? [] : [credentials, ...moreCredentials];
  const slots = all.map((one) => new Slot(credentialInWords(one), credentialSource(one, context)));
  return new Wallet(slots.length === 0 ? [new Slot(credentialInWords(undefined), undefined)] : slots, context);
}
