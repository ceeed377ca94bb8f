import { hasReason, isTransient } from '../oci/error.ts';
import { drain } from '../transport/body.ts';
import { afterReading } from '../waiting/after-reading.ts';
import { LinkedAbort } from '../waiting/linked-abort.ts';
import type { Ask, Asker } from './asking.ts';
import { isReset } from './failures.ts';
import type { HttpAnswer } from './http-client.ts';

/** The reasons for which a HEAD can fail where a GET may do better; beside a connection that was closed. */
const excused = ['bad-answer', 'cut', 'denied', 'limited', 'forbidden-address'] as const;

/** The HEAD of something, and the GET that decides where the HEAD does not say yes. */
export interface HeadAndGet<Head, Got> {
  /** @returns `undefined` where the HEAD says no, or nothing that can be used. @param asking is passed on with the request */
  readonly head: (asking: Pick<Ask, 'signal' | 'onAsking'>) => Promise<Head | undefined>;
  readonly get: (signal: AbortSignal) => Promise<Got>;
  /** How long a HEAD is waited for before a GET is sent beside it, in milliseconds. */
  readonly patienceMs: number;
  /** Whether something else can be given where the upstream asks for a pause: then no GET follows it. Absent: nothing. */
  readonly hasSubstitute?: (() => Promise<boolean>) | undefined;
  readonly signal: AbortSignal;
}

/**
 * The answer of the HEAD, or that of the GET and what the HEAD did instead: `refuted` said something that the GET
 * contradicts, `silent` said nothing until the GET had answered, `limited` was told to wait.
 */
export type HeadOrGet<Head, Got> =
  | { readonly head: Head }
  | { readonly got: Got; readonly because: 'refuted' | 'silent' | 'limited' };

/** Asks by HEAD. @returns the answer with any status but that of a limit. @throws as {@link Asker.ask} */
export async function askHead(asker: Asker, ask: Omit<Ask, 'method' | 'accepted'>): Promise<HttpAnswer> {
  const answer = await asker.ask({ ...ask, method: 'HEAD', accepted: 'any' });
  await drain(answer.body);
  return answer;
}

/**
 * Asks by HEAD, which only ever saves a GET: whatever it says but yes, a GET decides. One that is not answered soon gets a GET
 * beside it, and the first answer counts.
 * @throws what the GET throws, or the HEAD where a GET would fail in the same way; the signal's reason
 */
export async function headOrGet<Head, Got>(ways: HeadAndGet<Head, Got>): Promise<HeadOrGet<Head, Got>> {
  const { signal, hasSubstitute } = ways;
  using heading = new LinkedAbort(signal);
  using patience = new Patience(ways.patienceMs);
  const headed = outcomeOf(ways.head({ signal: heading.signal, onAsking: patience.note }));
  const first = await Promise.race([headed, patience.isOver]);
  if (first === 'over') return await raceOf(ways, { headed, heading });
  if ('value' in first && first.value !== undefined) return { head: first.value };
  const isLimited = 'error' in first && hasReason(first.error, 'limited');
  if ('error' in first) {
    if (signal.aborted || !isExcused(first.error)) throw first.error;
    if (isLimited && (await hasSubstitute?.()) === true) throw first.error;
  }
  return { got: await ways.get(signal), because: isLimited ? 'limited' : 'refuted' };
}

/** A HEAD that has not been answered for long, and a GET. */
async function raceOf<Head, Got>(
  { get, signal }: HeadAndGet<Head, Got>,
  { headed, heading }: { readonly headed: Promise<Outcome<Head | undefined>>; readonly heading: LinkedAbort },
): Promise<HeadOrGet<Head, Got>> {
  using getting = new LinkedAbort(signal);
  const abandoned = new DOMException('The operation was aborted', 'AbortError');
  const head = headed.then((outcome) =>
    'value' in outcome && outcome.value !== undefined ? { head: outcome.value } : undefined,
  );
  const got = outcomeOf(get(getting.signal));
  const first = await Promise.race([head, got]);
  if (first !== undefined && 'head' in first) {
    getting.abort(abandoned);
    return first;
  }
  const answer = await got;
  const late = 'error' in answer && isTransient(answer.error) && !signal.aborted ? await head : undefined;
  heading.abort(abandoned);
  if (late !== undefined) return late;
  if ('error' in answer) throw answer.error;
  return { got: answer.value, because: 'silent' };
}

type Outcome<Value> = { readonly value: Value } | { readonly error: unknown };

function outcomeOf<Value>(work: Promise<Value>): Promise<Outcome<Value>> {
  return work.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

function isExcused(error: unknown): boolean {
  return hasReason(error, ...excused) || isReset(error);
}

/** How long an answer is waited for. */
class Patience implements Disposable {
  readonly #ms: number;
  readonly #over = Promise.withResolvers<'over'>();
  #timer: NodeJS.Timeout | undefined;

  constructor(ms: number) {
    this.#ms = ms;
  }

  get isOver(): Promise<'over'> {
    return this.#over.promise;
  }

  /** @param isAsking whether an answer is waited for from now on */
  readonly note = (isAsking: boolean): void => {
    this[Symbol.dispose]();
    if (!isAsking) return;
    const timer = setTimeout(() => {
      afterReading(() => {
        // The answer may have come by now.
        if (this.#timer === timer) this.#over.resolve('over');
      });
    }, this.#ms);
    this.#timer = timer;
  };

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
