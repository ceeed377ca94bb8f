import { STATUS_CODES } from 'node:http';
import type { KeptAnswer } from './kept-answer.ts';

/** As Node says it: a connection is closed a second after that. */
const keepAlive = 'Connection: keep-alive\r\nKeep-Alive: timeout=75\r\n\r\n';

interface Rendered {
  readonly second: number;
  readonly headers: readonly string[];
  /** Text in latin1 the first time, from then on the same as bytes, which need not be made again. */
  answer: string | Buffer;
}

/** Answers as they are sent. One that is given often is made once a second, for the sake of its `Date`. */
export class AnswerTexts {
  readonly #whole = new WeakMap<KeptAnswer, Rendered>();
  #second = 0;
  #date = '';

  /**
   * @param headers its headers as they are now
   * @param body absent: it follows, or there is none
   * @returns text in latin1, or bytes, which are not to be changed
   */
  of(answer: KeptAnswer, headers: readonly string[], body?: string): string | Buffer {
    const second = Math.floor(Date.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#date = new Date(second * 1000).toUTCString();
    }
    const known = this.#whole.get(answer);
    // Its headers change with its age.
    if (known?.second === second && known.headers === headers) {
      if (typeof known.answer === 'string') known.answer = Buffer.from(known.answer, 'latin1');
      return known.answer;
    }
    let text = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}\r\n`;
    for (let at = 0; at < headers.length; at += 2) text += `${headers[at]}: ${headers[at + 1]}\r\n`;
    text += `Date: ${this.#date}\r\n${keepAlive}`;
    if (body !== undefined) text += body;
    this.#whole.set(answer, { second, headers, answer: text });
    return text;
  }
}
