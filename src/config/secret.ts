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

/**
 * A text of the configuration as a message may show it. What may be a password in it is hidden: what stands before the `@` of
 * an address, and the query of a URL.
 */
export function withoutSecrets(text: string): string {
  const login = text.includes('//') ? /(?<=\/\/).*(?=@)/s : /^.*:.*(?=@(?!sha\d+:))/s;
  return text.replace(login, hidden).replace(/(?<=:\/\/[^?#]*[?#]).+/s, hidden);
}
