import { shownBytes } from '../config/units.ts';
import type { FetchEvent } from '../operations/protocol/fetch.ts';
import { Progress, type ProgressOutput, type ProgressPicture, type ProgressRow } from './progress.ts';
import { counted, shownDigest } from './terminal.ts';

interface ImageState {
  missingBytes: number;
  waiting: string | undefined;
  /** Blobs in progress, by digest. */
  readonly blobs: Map<string, { doneBytes: number; totalBytes: number | null; isDone: boolean }>;
}

/** Tells people how a fetch goes: what is under way with bars on a terminal, and a line for each image that has ended. */
export class FetchReport implements Disposable {
  readonly #progress: Progress;
  readonly #isTerminal: boolean;
  /** The images under way. */
  readonly #images = new Map<string, ImageState>();
  #total = { doneBytes: 0, totalBytes: 0, images: 0 };
  #ended = 0;
  readonly #failures: string[] = [];

  /** @param io progress goes to standard error, what came of each image to standard output */
  constructor(
    io: { readonly stdout: ProgressOutput; readonly stderr: ProgressOutput },
    { now }: { now: () => number },
  ) {
    this.#progress = new Progress(io.stderr, { now, lines: io.stdout });
    this.#isTerminal = io.stderr.isTTY === true;
  }

  take(event: FetchEvent): void {
    const progress = this.#progress;
    switch (event.kind) {
      case 'resolved':
        this.#image(event.image).missingBytes = event.missingBytes;
        break;
      case 'blob': {
        const image = this.#image(event.image);
        image.waiting = undefined;
        image.blobs.set(event.digest, event);
        break;
      }
      case 'waiting': {
        const text = `waits ${event.seconds} s: ${event.reason}`;
        this.#image(event.image).waiting = text;
        if (!this.#isTerminal) progress.line(`${event.image} ${text}`);
        break;
      }
      case 'fetched':
        this.#endImage(event.image);
        progress.line(`${event.image} ${shownDigest(event.digest)} ${shownBytes(event.bytes)}${fetchedPart(event)}`);
        if (event.lacks.length > 0) progress.line(`  without ${event.lacks.join(', ')}`);
        break;
      case 'warned':
        progress.line(`warning: ${event.warning}`);
        break;
      case 'left-out':
        progress.line(`left out ${event.name}: ${event.reason}`);
        break;
      case 'failed':
        this.#endImage(event.image);
        this.#takeFailure(`${event.image} failed: ${event.error}`);
        break;
      case 'total':
        this.#total = event;
        break;
      case 'end':
        progress[Symbol.dispose]();
        progress.line(
          `${event.fetched} of ${counted(event.images, 'image')} here, ${shownBytes(event.fetchedBytes)} fetched`,
        );
        return;
      default:
        event satisfies never;
    }
    progress.update(() => this.#picture());
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }

  /** The first one is held back: if it stays the only one, it is the command's error. */
  #takeFailure(text: string): void {
    this.#failures.push(text);
    const told = this.#failures.length === 2 ? this.#failures : this.#failures.length > 2 ? [text] : [];
    for (const line of told) this.#progress.line(line);
  }

  #image(name: string): ImageState {
    const known = this.#images.get(name);
    if (known) return known;
    const image: ImageState = { missingBytes: 0, waiting: undefined, blobs: new Map() };
    this.#images.set(name, image);
    return image;
  }

  #endImage(name: string): void {
    this.#images.delete(name);
    this.#ended += 1;
  }

  #picture(): ProgressPicture {
    const rows = [...this.#images].flatMap(([label, image]): ProgressRow[] => {
      const blobs = [...image.blobs];
      if (blobs.length === 0 && image.waiting === undefined) return [];
      const doneBytes = blobs.reduce((sum, [, blob]) => sum + blob.doneBytes, 0);
      const layers = blobs
        .filter(([, { isDone }]) => !isDone)
        .map(([digest, blob]) => ({
          label: shownDigest(digest),
          depth: 1,
          doneBytes: blob.doneBytes,
          totalBytes: blob.totalBytes ?? undefined,
        }));
      // A blob that several images share counts for the first of them.
      const totalBytes = Math.max(doneBytes, image.missingBytes);
      return [{ label, doneBytes, totalBytes, note: image.waiting }, ...layers];
    });
    const { doneBytes, totalBytes, images } = this.#total;
    return { rows, total: { label: `${this.#ended} of ${counted(images, 'image')}`, doneBytes, totalBytes } };
  }
}

function fetchedPart({ fetchedBlobs, fetchedBytes }: Extract<FetchEvent, { kind: 'fetched' }>): string {
  return fetchedBlobs === 0 ? ', all here' : `, ${shownBytes(fetchedBytes)} fetched`;
}
