import { hasReason } from '../oci/error.ts';
import { drain } from '../transport/body.ts';
import type { BodyMemory } from '../transport/bulk-body.ts';
import type { Chain } from '../transport/chain.ts';
import { type Authenticator, isBasic, type SlotOptions } from './auth.ts';
import type { Slot, Wallet } from './credentials/wallet.ts';
import { endpointPath } from './endpoint-path.ts';
import { denied, failureOf, pauseOf, type Subject } from './failures.ts';
import type { ForeignTokens } from './foreign-tokens.ts';
import type { HttpAnswer, HttpClient } from './http-client.ts';
import { isRemembered, parentError } from './parent.ts';
import { Refusal, type RequestClass, type RequestGate } from './passage.ts';
import type { Walls } from './walls.ts';

/** A question to one URL of an upstream. */
export interface Ask {
  readonly method: 'GET' | 'HEAD';
  readonly repository: string;
  readonly subject: Subject;
  /** The path after the repository, with its query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** The memory for a large body; absent: its chunks are buffers of their own. */
  readonly memory?: BodyMemory | undefined;
  /** Told when it begins and ends to wait for an answer; not while it waits for a token. */
  readonly onAsking?: ((isAsking: boolean) => void) | undefined;
  /** Statuses handed back beside 200 and 203, where they are no failure; `any`: all but a limit. */
  readonly accepted?: readonly number[] | 'any';
}

export interface AskerOptions {
  /** Name of the upstream, for error messages. */
  readonly upstream: string;
  readonly url: string;
  readonly http: HttpClient;
  readonly walls: Walls;
  readonly authenticator: Authenticator;
  readonly wallet: Wallet;
  readonly foreignTokens: ForeignTokens;
  readonly now: () => number;
  /** This mirror's place among mirrors that ask each other; absent: requests do not name it. */
  readonly chain: Chain | undefined;
  /** How long an answer is waited for, less the way, in milliseconds. */
  readonly waitMs: number;
}

/** How often a 401 is answered with something else: a new token, then one for the scope that the challenge names. */
const maxRenewals = 2;

const classes: Readonly<Record<Subject, Readonly<Record<Ask['method'], RequestClass>>>> = {
  blob: { GET: 'blob', HEAD: 'blob-head' },
  manifest: { GET: 'manifest', HEAD: 'manifest-head' },
  repository: { GET: 'list', HEAD: 'list' },
  referrers: { GET: 'list', HEAD: 'list' },
};

function classOf({ subject, method }: Ask): RequestClass {
  return classes[subject][method];
}

interface Conversation {
  readonly answer: HttpAnswer;
  /** Whether credentials or a token were sent. */
  readonly shown: boolean;
  readonly isAnonymous: boolean;
}

/** Asks one URL of an upstream, with whatever it demands to see. */
export class Asker {
  readonly #options: AskerOptions;

  constructor(options: AskerOptions) {
    this.#options = options;
  }

  /**
   * Sends a request, with credentials where they are asked for.
   * @throws RegistryError for every status not accepted; Refusal; the signal's reason
   */
  async ask(ask: Ask): Promise<HttpAnswer> {
    const { upstream, now } = this.#options;
    const { subject, repository } = ask;
    const { answer, isAnonymous } = await this.#converse(ask);
    const { status, foreign, code } = answer;
    const { headers } = answer;
    const failed = {
      status,
      retryAfter: answer.headers['retry-after'],
      foreign,
      code,
      shown: !isAnonymous,
      request: requestOf(ask, answer),
      parentError: foreign ? undefined : parentError(headers),
      isRemembered: !foreign && isRemembered(headers),
    };
    if (isSuccess(status) || (ask.accepted !== 'any' && ask.accepted?.includes(status) === true)) return answer;
    await drain(answer.body);
    const failure = failureOf(failed, { upstream, subject, repository, now: now() });
    if (ask.accepted === 'any' && failure.reason !== 'limited') return answer;
    throw failure;
  }

  /** With one credential after another, where the first is limited or refused. */
  async #converse(ask: Ask): Promise<Conversation> {
    const { walls, wallet } = this.#options;
    const { repository } = ask;
    // No token is fetched for a request that will not be sent.
    walls.gate(classOf(ask), repository).check();
    const tried = new Set<Slot>();
    for (;;) {
      const slot = wallet.pick(repository, tried)!;
      tried.add(slot);
      const isLast = tried.size === wallet.slots.length;
      try {
        const result = await this.#converseWith(slot, ask);
        if (isLast || !this.#needsOther(slot, { ...result, ask })) return result;
        await drain(result.answer.body);
      } catch (error) {
        if (isLast || !hasReason(error, 'denied', 'no-credentials')) throw error;
        wallet.denied(slot, repository);
      }
    }
  }

  /** Whether an answer is due to the credential. */
  #needsOther(slot: Slot, { answer, shown, ask }: { answer: HttpAnswer; shown: boolean; ask: Ask }): boolean {
    const { wallet, now } = this.#options;
    const { status, code, headers, foreign } = answer;
    if (!shown || foreign) return false;
    if (pauseOf({ status, code, retryAfter: headers['retry-after'] }, now()) !== undefined)
      return wallet.hasOther(slot);
    if (status !== 401 && status !== 403) return false;
    wallet.denied(slot, ask.repository);
    return true;
  }

  async #converseWith(slot: Slot, ask: Ask): Promise<Conversation> {
    const { authenticator } = this.#options;
    const { repository, signal } = ask;
    const known = await authenticator.authorization(repository, { slot, signal });
    let sent = known.header;
    let answer = await this.#send(ask, { slot, authorization: sent });
    for (let round = 0; answer.status === 401 && !answer.foreign && round < maxRenewals; round += 1) {
      const challenge = answer.headers['www-authenticate'];
      if (challenge === undefined) break;
      await drain(answer.body);
      const options = { challenge, refused: sent, isFresh: round > 0, slot, signal };
      const renewed = await authenticator.renew(repository, options).catch((error: unknown) => {
        // It was asked a moment ago, and what it said then says more.
        throw error instanceof Refusal && known.failure !== undefined ? known.failure : error;
      });
      if (renewed === undefined) throw await this.#denied(ask, { answer, slot, sent });
      sent = renewed;
      answer = await this.#send(ask, { slot, authorization: sent });
    }
    if (sent === undefined && (await this.#mayBeUntold(answer, { slot, signal }))) {
      const authorization = await authenticator.pinged(repository, { slot, signal });
      if (authorization !== undefined) {
        await drain(answer.body);
        sent = authorization;
        answer = await this.#send(ask, { slot, authorization: sent });
      }
    }
    // Amazon ECR answers an expired credential with 403 or 400.
    if (isBasic(sent) && isRefusal(answer) && (await authenticator.hasRenewed({ slot, signal, sent }))) {
      await drain(answer.body);
      sent = (await authenticator.authorization(repository, { slot, signal })).header ?? sent;
      answer = await this.#send(ask, { slot, authorization: sent });
    }
    // Some registries say so of a token, too: it may have lived for less time than its service said.
    if (sent !== undefined && answer.status === 403 && !answer.foreign && authenticator.dropAged(slot, sent)) {
      await drain(answer.body);
      sent = (await authenticator.authorization(repository, { slot, signal })).header ?? sent;
      answer = await this.#send(ask, { slot, authorization: sent });
    }
    if (sent !== undefined && answer.status !== 401 && answer.status !== 403) authenticator.accepted(repository);
    if (answer.status === 401 && answer.foreign) answer = await this.#askForeign(ask, answer);
    return { answer, shown: sent !== undefined, isAnonymous: await this.#isAnonymous(answer, { slot, sent, signal }) };
  }

  /** Whether a refused request has shown nothing but a token that any client gets. False where nothing is refused. */
  async #isAnonymous(
    { status }: HttpAnswer,
    { sent, ...options }: SlotOptions & { readonly sent: string | undefined },
  ): Promise<boolean> {
    if (sent === undefined) return true;
    if (isBasic(sent) || (status !== 401 && status !== 403)) return false;
    return !(await this.#options.authenticator.hasCredential(options));
  }

  /** Whether a "no" may only mean that credentials were not shown: some registries say so at `/v2/` alone. */
  async #mayBeUntold({ status, foreign, headers }: HttpAnswer, options: SlotOptions): Promise<boolean> {
    if (foreign || headers['www-authenticate'] !== undefined) return false;
    if (status === 401) return true;
    return (status === 403 || status === 404) && (await this.#options.authenticator.hasCredential(options));
  }

  /** Another registry that an upstream redirects to may give tokens to anonymous clients; ours are not for it. */
  async #askForeign(ask: Ask, answer: HttpAnswer): Promise<HttpAnswer> {
    const challenge = answer.headers['www-authenticate'];
    const token = await this.#options.foreignTokens.get({ challenge, target: answer.url, signal: ask.signal });
    if (token === undefined) return answer;
    await drain(answer.body);
    const authorization = `Bearer ${token}`;
    return await this.#send(ask, { authorization, target: answer.url });
  }

  async #send(
    ask: Ask,
    { slot, authorization, target }: { readonly slot?: Slot; authorization: string | undefined; target?: URL },
  ): Promise<HttpAnswer> {
    const { http, url } = this.#options;
    const used = authorization === undefined ? undefined : slot;
    if (used !== undefined) used.requests += 1;
    ask.onAsking?.(true);
    const answer = http.send({
      gate: this.#gate(ask, used),
      method: ask.method,
      url: target ?? resourceUrl(url, `${ask.repository}/${ask.path}`),
      isForeign: target !== undefined,
      headers: {
        ...ask.headers,
        ...(target === undefined && this.#inChain()),
        ...(authorization !== undefined && { authorization }),
      },
      lane: ask.subject === 'blob' && ask.method === 'GET' ? 'blob' : 'metadata',
      redirects: 'any-origin',
      memory: ask.memory,
      signal: ask.signal,
    });
    return await answer.finally(() => ask.onAsking?.(false));
  }

  #gate(ask: Ask, slot: Slot | undefined): RequestGate {
    const { walls, wallet } = this.#options;
    const gate = walls.gate(classOf(ask), ask.repository);
    if (slot === undefined) return gate;
    return { check: () => gate.check(), enter: async (signal) => wallet.watch(await gate.enter(signal), slot) };
  }

  /** Headers for a mirror that is the upstream: the mirrors that ask, and how long they wait. */
  #inChain(): Record<string, string> {
    const { chain, waitMs } = this.#options;
    // The next one has less time than this one, so that what it gives at the end of it arrives here in time.
    const seconds = Math.floor(Math.min(waitMs, chain?.leftMs ?? waitMs) / 1000);
    return {
      ...(chain && { 'cdn-loop': chain.header }),
      // RFC 7240, 4.3: an answer after that comes too late.
      ...(chain && seconds >= 1 && { prefer: `wait=${seconds}` }),
    };
  }

  async #denied(
    ask: Ask,
    { answer, slot, sent }: { readonly answer: HttpAnswer; readonly slot: Slot; readonly sent: string | undefined },
  ): Promise<Error> {
    const { upstream } = this.#options;
    const { repository, signal } = ask;
    const shown = !(await this.#isAnonymous(answer, { slot, sent, signal }));
    return denied(upstream, { repository, status: answer.status, shown, request: requestOf(ask, answer) });
  }
}

/** Whether an answer has what was asked for: clients take any success that may have a body, and the digest decides. */
function isSuccess(status: number): boolean {
  return status >= 200 && status <= 203;
}

/** Whether an answer may say that a credential has expired. */
function isRefusal({ status, foreign }: HttpAnswer): boolean {
  return !foreign && (status === 400 || status === 403);
}

/** Method and address of a request, without its query. */
function requestOf({ method }: Ask, { url }: HttpAnswer): string {
  return `${method} ${url.origin}${url.pathname}`;
}

/**
 * The address of something under `/v2/` of an endpoint. A path of the endpoint comes before `/v2/`, except where it
 * begins with `/v2/`: that is a mirror which tells its upstreams apart by the first part of the repository.
 */
export function resourceUrl(endpoint: string, resource: string): URL {
  const url = new URL(endpoint);
  const base = endpointPath(url);
  const root = base === '/v2' || base.startsWith('/v2/') ? base : `${base}/v2`;
  return new URL(`${root}/${resource}`, url.origin);
}
