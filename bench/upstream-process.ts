import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { clientCore, freePort, type Program, startServer } from './program.ts';

export interface UpstreamOptions {
  /** Folder for its log. */
  readonly directory: string;
  /** Shared by all that is sent; absent: as fast as it goes. */
  readonly bytesPerSecond?: number;
  /** Before the headers of each answer. */
  readonly latencyMs?: number;
}

interface State {
  readonly transfers: number;
  readonly asked: Readonly<Record<string, number>>;
}

/** The registry that the mirrors pull from, on the client's core. */
export class Upstream implements AsyncDisposable {
  readonly origin: string;
  readonly #program: Program;

  constructor(origin: string, program: Program) {
    this.origin = origin;
    this.#program = program;
  }

  /** Adds a blob that no mirror can have; gives its digest. */
  async addBlob(bytes: number): Promise<string> {
    const [digest = ''] = await this.addBlobs(1, bytes);
    return digest;
  }

  /** As {@link addBlob}, several of the same size. */
  async addBlobs(count: number, bytes: number): Promise<string[]> {
    return (await this.#control<{ digests: string[] }>(`blobs?count=${count}&bytes=${bytes}`)).digests;
  }

  /** Adds an image with the tag `latest`; gives the digest of its manifest. @param more bytes beyond two kilobytes */
  async addImage(more = 0): Promise<string> {
    return (await this.#control<{ digest: string }>(`image?more=${more}`)).digest;
  }

  /** How often a digest or tag has been asked for with GET. */
  async timesAsked(reference: string): Promise<number> {
    return (await this.#control<State>('state')).asked[`GET ${reference}`] ?? 0;
  }

  /** How many requests there have been at all, without those of this class. */
  async requestCount(): Promise<number> {
    const { asked } = await this.#control<State>('state');
    return Object.values(asked).reduce((sum, times) => sum + times, 0);
  }

  /** Waits until nothing is sent any more: docker-registry fetches behind its clients' backs. */
  async untilIdle(): Promise<void> {
    const deadline = AbortSignal.timeout(90_000);
    for (let calm = 0; calm < 3; ) {
      deadline.throwIfAborted();
      calm = (await this.#control<State>('state')).transfers === 0 ? calm + 1 : 0;
      await delay(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#program[Symbol.asyncDispose]();
  }

  async #control<Answer>(what: string): Promise<Answer> {
    const response = await fetch(`${this.origin}/-/${what}`);
    return (await response.json()) as Answer;
  }
}

export async function startUpstream(options: UpstreamOptions): Promise<Upstream> {
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const program = fileURLToPath(new URL('upstream.ts', import.meta.url));
  const process_ = await startServer(process.execPath, {
    args: [program, String(port), String(options.bytesPerSecond ?? 0), String(options.latencyMs ?? 0)],
    core: clientCore,
    logFile: join(options.directory, 'upstream.log'),
    readyUrl: `${origin}/v2/`,
  });
  return new Upstream(origin, process_);
}
