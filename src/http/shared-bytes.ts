import type { Ticket } from './admission.ts';

/** The bytes that each further answer with the same content counts: the content is in memory once. */
const furtherBytes = 16 * 1024;

/** Counts bytes that several answers send at the same time once: one of them pays for the memory, as long as it lasts. */
export class SharedBytes {
  /** The first pays. */
  readonly #holders = new Map<Buffer, Ticket[]>();

  /** Takes memory for an answer. @returns whether there was room; if not, the ticket says what was used up */
  take(bytes: Buffer, ticket: Ticket): boolean {
    const holders = this.#holders.get(bytes);
    if (!ticket.take(holders === undefined ? bytes.length : furtherBytes)) return false;
    if (holders) holders.push(ticket);
    else this.#holders.set(bytes, [ticket]);
    ticket.onEnd = () => this.#leave(bytes, ticket);
    return true;
  }

  #leave(bytes: Buffer, ticket: Ticket): void {
    const holders = this.#holders.get(bytes) ?? [];
    const place = holders.indexOf(ticket);
    holders.splice(place, 1);
    const [next] = holders;
    if (next === undefined) this.#holders.delete(bytes);
    else if (place === 0) next.charge(bytes.length - furtherBytes);
  }
}
