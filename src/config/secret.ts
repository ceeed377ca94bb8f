import { inspect } from 'node:util';

/** The text that is shown in place of a secret. */
export const hidden = '[hidden]';

/** A password or token. A template, JSON, a log and the inspector show `[hidden]` in its place. */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The secret itself, for the one place that sends it. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return hidden;
  }

  toJSON(): string {
    return hidden;
  }

  [inspect.custom](): string {
    return hidden;
  }
}
