import { appendFile } from 'node:fs/promises';
import type { Logger } from './logger.ts';

/** Lines that wait for the file, in characters; more are lost, and that is logged. */
const mostCharacters = 4 * 1024 * 1024;

/** The kind of event: a closed set, so that programs can look for it. */
export type AuditEvent =
  /** Credentials were wrong. */
  | 'credentials refused'
  /** The policies do not allow it. */
  | 'access refused'
  | 'manifest pushed'
  | 'tag pushed'
  | 'content deleted'
  | 'image removed'
  | 'image pinned'
  | 'image unpinned'
  /** A caller has begun an operation over the extension. */
  | 'operation requested'
  | 'key created'
  | 'key removed'
  | 'configuration changed';

/** Writes down a refusal or a change. Callers pass names and addresses, never a credential. */
export type Audit = (event: AuditEvent, fields: Readonly<Record<string, unknown>>) => void;

/** Refusals and changes, apart from the log of requests: in a file, or in the log where none is configured. */
export class AuditLog implements AsyncDisposable {
  readonly #log: Logger;
  readonly #file: string | undefined;
  #waiting = '';
  #lost = 0;
  #writing: Promise<void> | undefined;

  /** @param options `file`: opened for each batch, so that it can be rotated */
  constructor({ log, file }: { readonly log: Logger; readonly file: string | undefined }) {
    this.#log = log;
    this.#file = file;
  }

  readonly write: Audit = (event, fields) => {
    if (this.#file === undefined) {
      this.#log.info({ event, ...fields }, 'audit');
      return;
    }
    if (this.#waiting.length > mostCharacters) {
      this.#lost += 1;
      return;
    }
    this.#waiting += `${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`;
    this.#writing ??= this.#run();
  };

  /** Writes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writing;
  }

  async #run(): Promise<void> {
    while (this.#waiting !== '') {
      const lines = this.#waiting;
      this.#waiting = '';
      try {
        await appendFile(this.#file!, lines, { mode: 0o600 });
      } catch (error) {
        this.#lost += lines.split('\n').length - 1;
        const { code } = error as NodeJS.ErrnoException;
        this.#log.error({ code, lines: this.#lost }, 'lines of the audit log could not be written and are lost');
      }
    }
    this.#writing = undefined;
  }
}
