import type { Arrival, Part } from './arrival.ts';
import { LatelyReceived } from './lately-received.ts';
import { ReservedBytes } from './reserved-bytes.ts';

/**
 * The content that has room or waits for it: arriving content in the order in which it asked, what has been received only as far
 * as nothing that is on its way or was received later has to go for it. Keeps numbers only.
 */
export class Reservations {
  readonly bytes = new ReservedBytes();
  readonly #limitBytes: () => number;
  /** In the order in which they began to wait. */
  readonly #waiting = new Set<Arrival>();
  readonly #received = new LatelyReceived();

  /** @param limitBytes what all that is reserved may take together; asked again each time */
  constructor(limitBytes: () => number) {
    this.#limitBytes = limitBytes;
  }

  ask(arrival: Arrival): void {
    arrival.state = 'waiting';
    this.#waiting.add(arrival);
    this.settle();
  }

  /** Admits what waits and fits, in its order; refuses what can never fit. */
  settle(): void {
    for (const arrival of this.#waiting) {
      if (arrival.receivedOrder !== undefined) continue;
      if (this.#lacks(arrival) > 0) {
        // The next one waits for its turn: else a large image would wait for ever.
        if (this.#neverFits(arrival)) this.refuse(arrival);
        else break;
      } else {
        this.#admit(arrival);
      }
    }
    this.#settleReceived();
  }

  /** It has no room, nor will it soon: it passes through. */
  refuse(arrival: Arrival): void {
    const wasAdmitted = arrival.state === 'admitted';
    this.#waiting.delete(arrival);
    arrival.state = 'refused';
    arrival.decided.resolve();
    if (!wasAdmitted) return;
    this.#release(arrival);
    this.settle();
  }

  /** Refuses what has waited for the shortest time. @returns whether anything waits */
  refuseLast(): boolean {
    const last = [...this.#waiting].at(-1);
    if (last !== undefined) this.refuse(last);
    return last !== undefined;
  }

  /** All of an image has been received. */
  received(arrival: Arrival): void {
    if (arrival.receivedOrder !== undefined) return;
    if (arrival.state === 'admitted') {
      for (const part of arrival.parts) this.bytes.change(part, () => (part.arriving -= 1));
    }
    arrival.receivedOrder = this.#received.add(arrival);
    arrival.receivedAtMs = performance.now();
  }

  /** It neither has nor wants room any more. */
  end(arrival: Arrival): void {
    this.#waiting.delete(arrival);
    if (arrival.state === 'admitted') this.#release(arrival);
    arrival.decided.resolve();
  }

  #admit(arrival: Arrival): void {
    this.#waiting.delete(arrival);
    arrival.state = 'admitted';
    for (const part of arrival.parts) this.#admitPart(part, arrival, 1);
    arrival.decided.resolve();
  }

  #release(arrival: Arrival): void {
    for (const part of arrival.parts) this.#admitPart(part, arrival, -1);
  }

  #admitPart(part: Part, { isLasting, receivedOrder }: Arrival, by: 1 | -1): void {
    this.bytes.change(part, () => {
      part.admitted += by;
      if (isLasting) part.lasting += by;
      if (receivedOrder === undefined) part.arriving += by;
    });
  }

  /** How many bytes are missing for an image to be admitted. */
  #lacks(arrival: Arrival): number {
    const own = bytesOf(arrival, ({ admitted }) => admitted === 0);
    return this.bytes.held + this.bytes.coming + own - this.#limitBytes();
  }

  #neverFits(arrival: Arrival): boolean {
    return this.bytes.lasting + bytesOf(arrival, ({ lasting }) => lasting === 0) > this.#limitBytes();
  }

  /** Admits what waits with all that it consists of, the last received first; refuses it where others would have to go. */
  #settleReceived(): void {
    const waiting = [...this.#waiting].filter(({ receivedOrder }) => receivedOrder !== undefined);
    waiting.sort((one, other) => other.receivedOrder! - one.receivedOrder!);
    for (const arrival of waiting) {
      const own = bytesOf(arrival, ({ arriving }) => arriving === 0);
      const newer = this.#received.bytesAfter(arrival, ({ arriving }) => arriving > 0);
      const newerElsewhere = this.#received.bytesAfter(arrival, ({ admitted }) => admitted > 0);
      if (this.bytes.arriving + own + newer > this.#limitBytes()) this.refuse(arrival);
      // Else what was received before it is being stored, and may be evicted then.
      else if (this.#lacks(arrival) + newerElsewhere <= 0) this.#admit(arrival);
    }
    this.#received.forgetBefore(waiting.findLast(({ state }) => state === 'waiting')?.receivedOrder);
  }
}

function bytesOf({ parts }: Arrival, isMeant: (part: Part) => boolean): number {
  let bytes = 0;
  for (const part of parts) if (!part.isPinned && isMeant(part)) bytes += part.bytes;
  return bytes;
}
