import { ArchiveError } from '../archive/archive-error.ts';
import { shownBytes } from '../config/units.ts';
import type { ImportEvent, NameChange } from '../operations/command/import-archive.ts';
import type { ImageChange } from '../operations/protocol/import.ts';
import type { CommandIo } from './command.ts';
import { Progress } from './progress.ts';
import { counted, shownDigest, table } from './terminal.ts';

type ImageEvent = Extract<ImportEvent, { kind: 'image' }>;
type ForeseenEvent = Extract<ImportEvent, { kind: 'foreseen' }>;

const changes: Readonly<Record<ImageChange, string>> = {
  new: 'new',
  same: 'as it is',
  newer: 'newer',
  older: 'going back',
  moved: 'changed',
};

/** Shows an import: results on standard output, progress on standard error, each failure once. */
export class ImportReport implements Disposable {
  readonly #io: CommandIo;
  readonly #isJson: boolean;
  readonly #dryRun: boolean;
  readonly #progress: Progress;
  readonly #foreseen: ForeseenEvent[] = [];
  /** Images that were not imported, damaged blobs, and the messages about them. */
  readonly #refused: { readonly name: string; readonly reason: string }[] = [];
  readonly #damaged: string[] = [];
  /** Reported images and attachments so far. */
  #said = '';
  #plan: Extract<ImportEvent, { kind: 'plan' }> | undefined;
  #receivedBytes = 0;
  #images = 0;
  #attachments = 0;
  readonly #taken = { blobs: 0, bytes: 0 };

  constructor(io: CommandIo, { isJson, dryRun }: { isJson: boolean; dryRun: boolean }) {
    this.#io = io;
    this.#isJson = isJson;
    this.#dryRun = dryRun;
    this.#progress = new Progress(io.stderr, { now: () => performance.now(), lines: io.stdout });
  }

  received(bytes: number): void {
    this.#receivedBytes += bytes;
    const total = { label: 'in all', doneBytes: this.#receivedBytes, totalBytes: this.#plan?.bytes };
    this.#progress.update(() => ({ rows: [], total }));
  }

  take(event: ImportEvent): void {
    if (this.#isJson) this.#io.stdout.write(`${JSON.stringify(event)}\n`);
    switch (event.kind) {
      case 'foreseen':
        this.#foreseen.push(event);
        break;
      case 'plan':
        this.#plan = event;
        break;
      case 'blob':
        this.#taken.blobs += 1;
        this.#taken.bytes += event.size;
        break;
      case 'damaged':
        this.#damaged.push(event.reason);
        break;
      case 'image':
        this.#takeImage(event);
        break;
      case 'left-out':
        this.#line(`left out ${event.name}: ${event.reason}`);
        break;
      case 'refused':
        this.#refused.push(event);
        break;
      default:
        event satisfies never;
    }
  }

  /** Says what came of it. @throws ArchiveError in one sentence where an image was refused or a blob is damaged */
  end(): void {
    const { present = 0 } = this.#plan ?? {};
    const damaged = this.#damaged.length;
    const end = { kind: 'end', images: this.#images, ...this.#taken, present, damaged };
    if (this.#isJson) this.#io.stdout.write(`${JSON.stringify(this.#dryRun ? { ...end, images: 0 } : end)}\n`);
    if (this.#dryRun) this.#sayForeseen();
    // One failure is the command's error; several are lines here, and their number is.
    if (this.#refused.length > 1) {
      for (const { name, reason } of this.#refused) this.#line(`refused ${name}: ${reason}`);
    }
    const refused = this.#refused.map(({ reason }) => reason).join('\n');
    const untold = this.#damaged.filter((reason) => !this.#said.includes(reason) && !refused.includes(reason));
    const isOnlyOne = this.#refused.length === 0 && damaged === 1;
    if (!isOnlyOne) for (const reason of untold) this.#line(`damaged: ${reason}`);
    if (!this.#dryRun) this.#line(this.#summary());
    this.#throwFailures(isOnlyOne && untold.length === 1);
  }

  #throwFailures(isUntold: boolean): void {
    const [first, ...others] = this.#refused;
    if (first !== undefined) {
      throw new ArchiveError(
        others.length === 0
          ? named(first)
          : `${others.length + 1} of its images ${this.#dryRun ? 'would be' : 'were'} refused`,
      );
    }
    if (this.#damaged.length === 0) return;
    throw new ArchiveError(
      isUntold
        ? this.#damaged[0]!
        : `${counted(this.#damaged.length, 'blob')} in it ${this.#damaged.length === 1 ? 'is' : 'are'} damaged`,
    );
  }

  [Symbol.dispose](): void {
    this.#progress[Symbol.dispose]();
  }

  #takeImage({ isAttachment, leftOut, ...image }: ImageEvent): void {
    if (isAttachment) {
      this.#attachments += 1;
      return;
    }
    this.#images += 1;
    this.#line(`${image.name} ${shownDigest(image.digest)}${moved(image)}`);
    const absent = leftOut.filter(({ damage }) => damage === undefined).map(({ name }) => name);
    if (absent.length > 0) this.#line(`  without ${absent.join(', ')}`);
    for (const { name, damage } of leftOut) if (damage !== undefined) this.#line(`  without ${name}: ${damage}`);
  }

  #sayForeseen(): void {
    const images = this.#foreseen.filter(({ isAttachment }) => !isAttachment);
    const rows = images.map(({ name, digest, change, before }) => [
      name,
      shownDigest(digest),
      changes[change],
      before === null || change === 'same' ? '' : `now ${shownDigest(before)}`,
    ]);
    for (const line of table([['IMAGE', 'DIGEST', 'CHANGE', ''], ...rows])) this.#line(line);
    const counts = Map.groupBy(images, ({ change }) => change);
    const which = [...counts].map(([change, some]) => `${some.length} ${changes[change]}`).join(', ');
    const { blobs = 0, bytes = 0, present = 0 } = this.#plan ?? {};
    const along = goingAlong(this.#foreseen.length - images.length);
    this.#line(
      `${counted(images.length, 'image')}${along}: ${which}; ${counted(blobs, 'blob')} to take in (${shownBytes(bytes)}), ${present} here`,
    );
  }

  #summary(): string {
    const { blobs, bytes } = this.#taken;
    const { present = 0 } = this.#plan ?? {};
    const images = `${counted(this.#images, 'image')}${goingAlong(this.#attachments)}`;
    return `${images}: ${counted(blobs, 'blob')} taken in (${shownBytes(bytes)}), ${present} ${present === 1 ? 'was' : 'were'} here`;
  }

  #line(text: string): void {
    this.#said += `${text}\n`;
    if (!this.#isJson) this.#progress.line(text);
  }
}

function goingAlong(attachments: number): string {
  return attachments === 0 ? '' : ` with ${counted(attachments, 'attachment')}`;
}

/** The image that a tag stood for before, where that was another one. */
function moved({ change, before }: NameChange): string {
  if (before === null || change === 'same' || change === 'new') return '';
  const which = { older: ', going back', newer: ', newer', moved: '' }[change];
  return ` (was ${shownDigest(before)}${which})`;
}

/** The fault of an image, with its name. */
function named({ name, reason }: { readonly name: string; readonly reason: string }): string {
  return reason.includes(name) ? reason : `${name}: ${reason}`;
}
