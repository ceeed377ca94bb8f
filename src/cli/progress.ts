import { shownBytes } from '../config/units.ts';
import { shownSeconds } from './terminal.ts';

/** Shortest time between two pictures on a terminal, in milliseconds. */
const drawEveryMs = 100;
/** The rate is computed over this many milliseconds. */
const rateOverMs = 10_000;
/** Smaller blobs arrive before their progress could be read. */
const tenthsFromBytes = 64 * 1024 * 1024;
/** As wide as figures become: `1023MiB of 1023MiB, 1023MiB/s, 59 min 59 s left`. */
const figuresWidth = 47;
const labelWidth = { min: 16, max: 44 };
/** A bar of fewer signs says nothing. */
const barWidth = { min: 8, max: 24 };

/** Where progress is shown, such as `process.stdout`. */
export interface ProgressOutput {
  write(text: string): unknown;
  /** Whether the cursor can be moved there. */
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** Something that is under way. */
export interface ProgressRow {
  readonly label: string;
  /** Steps to the right. */
  readonly depth?: number;
  readonly doneBytes: number;
  /** `undefined`: not known yet. */
  readonly totalBytes: number | undefined;
  /** In place of the figures. */
  readonly note?: string | undefined;
}

/** Everything that is shown at one moment. */
export interface ProgressPicture {
  readonly rows: readonly ProgressRow[];
  /** The whole of it; its rate and time left are worked out here. What need not be moved counts in neither. */
  readonly total: ProgressRow;
}

/**
 * Shows how far long work has come: rows with bars that are drawn over again on a terminal; elsewhere plain lines only,
 * one at each tenth of the whole. Disposing removes the rows and leaves the lines.
 */
export class Progress implements Disposable {
  readonly #output: ProgressOutput;
  readonly #lines: ProgressOutput;
  readonly #now: () => number;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  #picture: ProgressPicture | undefined;
  #drawnLines = 0;
  #drawnAtMs = Number.NEGATIVE_INFINITY;
  #tenths = 0;

  /**
   * @param output where progress is shown: standard error, since it is not what a command is asked for
   * @param options `now`: a clock in milliseconds; `lines`: where lines that stay go, absent: to `output` too
   */
  constructor(output: ProgressOutput, { now, lines = output }: { now: () => number; lines?: ProgressOutput }) {
    this.#output = output;
    this.#lines = lines;
    this.#now = now;
  }

  /** To be called at every change: looks at the picture only when it is time to show it. */
  update(picture: () => ProgressPicture): void {
    const now = this.#now();
    if (this.#output.isTTY !== true) {
      this.#sayTenths(picture().total, now);
      return;
    }
    if (now - this.#drawnAtMs < drawEveryMs) return;
    this.#picture = picture();
    this.#sample(this.#picture.total, now);
    this.#output.write(this.#cleared() + this.#drawn(now));
  }

  /** A line that stays. */
  line(text: string): void {
    this.#write(this.#lines, text);
  }

  #write(to: ProgressOutput, text: string): void {
    if (this.#picture !== undefined) this.#output.write(this.#cleared());
    to.write(`${printable(text)}\n`);
    if (this.#picture !== undefined) this.#output.write(this.#drawn(this.#now()));
  }

  [Symbol.dispose](): void {
    if (this.#drawnLines > 0) this.#output.write(this.#cleared());
    this.#picture = undefined;
  }

  #sayTenths(total: ProgressRow, now: number): void {
    this.#sample(total, now);
    const { doneBytes, totalBytes } = total;
    const tenths = totalBytes === undefined || totalBytes === 0 ? 0 : Math.floor((doneBytes / totalBytes) * 10);
    if (tenths <= this.#tenths || (totalBytes ?? 0) < tenthsFromBytes) return;
    this.#tenths = tenths;
    this.#write(this.#output, `${tenths * 10} %, ${this.#figures(total)}`);
  }

  #sample({ doneBytes }: ProgressRow, atMs: number): void {
    this.#samples.push({ atMs, bytes: doneBytes });
    while (this.#samples.length > 2 && atMs - this.#samples[1]!.atMs >= rateOverMs) this.#samples.shift();
    // However often it is called: every second one tells nearly as much.
    if (this.#samples.length > 512)
      for (let index = 1; index < this.#samples.length; index += 1) this.#samples.splice(index, 1);
  }

  #cleared(): string {
    const up = this.#drawnLines === 0 ? '' : `\x1b[${this.#drawnLines}A`;
    this.#drawnLines = 0;
    return `\r${up}\x1b[J`;
  }

  #drawn(now: number): string {
    if (this.#picture === undefined) return '';
    // Some terminals say that they have no size.
    const columns = this.#output.columns || 80;
    const height = this.#output.rows || 24;
    const { rows, total } = this.#picture;
    const room = Math.max(1, height - 4);
    const lines = rows.slice(0, room).map((row) => rowLine(row, row.note ?? amounts(row), columns));
    if (rows.length > room) lines.push(`and ${rows.length - room} more`);
    lines.push(rowLine(total, this.#figures(total), columns));
    this.#drawnLines = lines.length;
    this.#drawnAtMs = now;
    return lines.map((line) => `${printable(line).slice(0, columns - 1)}\n`).join('');
  }

  /** Amounts, rate and time left of the whole. */
  #figures(total: ProgressRow): string {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    const seconds = first && last ? (last.atMs - first.atMs) / 1000 : 0;
    const bytesPerSecond = first && last && seconds > 0 ? (last.bytes - first.bytes) / seconds : 0;
    if (bytesPerSecond <= 0) return amounts(total);
    const left = total.totalBytes === undefined ? 0 : (total.totalBytes - total.doneBytes) / bytesPerSecond;
    const until = left < 1 ? '' : `, ${shownSeconds(left)} left`;
    return `${amounts(total)}, ${shownBytes(Math.round(bytesPerSecond))}/s${until}`;
  }
}

/** One row: where there is no room for all, the bar goes first and the name after it; figures say the most. */
function rowLine(row: ProgressRow, figures: string, columns: number): string {
  // The last column stays empty, and a bar has four signs around it.
  const room = columns - 1 - figuresWidth - 4;
  const bar = Math.min(barWidth.max, room - labelWidth.min);
  if (bar >= barWidth.min) {
    return `${fittedLabel(row, Math.min(labelWidth.max, room - bar))} ${shownBar(row, bar)} ${figures}`;
  }
  const label = columns - 2 - figures.length;
  if (row.note !== undefined) return `${fittedLabel(row, Math.max(label, labelWidth.min))} ${figures}`;
  return label < labelWidth.min / 2 ? figures : `${fittedLabel(row, label)} ${figures}`;
}

function fittedLabel({ label, depth = 0 }: ProgressRow, width: number): string {
  const name = `${'  '.repeat(depth)}${label}`;
  // The end of a name tells more than its beginning.
  return name.length > width ? `…${name.slice(name.length - width + 1)}` : name.padEnd(width);
}

function shownBar({ doneBytes, totalBytes }: ProgressRow, width: number): string {
  if (totalBytes === undefined) return ' '.repeat(width + 2);
  const filled = totalBytes === 0 ? width : Math.min(width, Math.floor((doneBytes / totalBytes) * width));
  return `[${'='.repeat(filled)}${' '.repeat(width - filled)}]`;
}

function amounts({ doneBytes, totalBytes }: ProgressRow): string {
  return totalBytes === undefined ? shownBytes(doneBytes) : `${shownBytes(doneBytes)} of ${shownBytes(totalBytes)}`;
}

/** Text from elsewhere does not steer the terminal. */
function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
