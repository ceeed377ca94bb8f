import type { KeptAnswer } from './kept-answer.ts';
import type { Served } from './short-way.ts';

/** Quoted texts that are remembered: few clients send most of the requests. */
const maxQuoted = 256;

/** The result of a request that was answered the short way, as a label of metrics. */
export function resultOf({ answer, isComplete, failure }: Served): string {
  if (!isComplete) return failure === undefined ? 'left' : 'cut';
  return answer.about.outcome;
}

/** The fields of the log for such a request, in the order of one that was decided. */
export function fieldsOf(served: Served, described: (error: unknown) => unknown): Record<string, unknown> {
  const { answer, sentBytes, durationMs, client, userAgent, failure } = served;
  const { method, path, upstream, repository, namedBy, outcome, through } = answer.about;
  const result = resultOf(served);
  return {
    method,
    path,
    upstream,
    repository,
    namedBy,
    status: answer.status,
    result,
    bytes: sentBytes,
    ms: roundedMs(durationMs),
    client,
    userAgent,
    through,
    outcome: outcome === result ? undefined : outcome,
    error: failure === undefined ? undefined : described(failure),
  };
}

/** Makes the fields of requests that were answered whole into JSON, as {@link fieldsOf} has them, with little garbage. */
export class RequestLines {
  readonly #quoted = new Map<string, string>();
  readonly #beginnings = new WeakMap<KeptAnswer, string>();

  /** The members of the object, without its braces. */
  members({ answer, sentBytes, durationMs, client, userAgent }: Served): string {
    const { through } = answer.about;
    const agent = userAgent === undefined ? '' : `,"userAgent":${this.#quote(userAgent)}`;
    const chain = through === undefined ? '' : `,"through":${JSON.stringify(through)}`;
    const ms = roundedMs(durationMs);
    return `${this.#beginning(answer)},"bytes":${sentBytes},"ms":${ms},"client":${this.#quote(client)}${agent}${chain}`;
  }

  /** The fields that are the same for all requests that got the answer. */
  #beginning(answer: KeptAnswer): string {
    const known = this.#beginnings.get(answer);
    if (known !== undefined) return known;
    const { method, path, upstream, repository, namedBy, outcome } = answer.about;
    const { status } = answer;
    const made = JSON.stringify({ method, path, upstream, repository, namedBy, status, result: outcome }).slice(1, -1);
    this.#beginnings.set(answer, made);
    return made;
  }

  #quote(text: string): string {
    const known = this.#quoted.get(text);
    if (known !== undefined) return known;
    const quoted = JSON.stringify(text);
    if (this.#quoted.size >= maxQuoted) this.#quoted.clear();
    this.#quoted.set(text, quoted);
    return quoted;
  }
}

function roundedMs(durationMs: number): number {
  return Math.round(durationMs * 10) / 10;
}
