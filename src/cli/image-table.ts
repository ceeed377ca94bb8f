import { shownBytes } from '../config/units.ts';
import type { ListedAttachment, ListedImage, ListedPin, ListTotal } from '../operations/protocol/administration.ts';
import { plural, shownAge, shownDigest } from './terminal.ts';

export interface ImageTableOptions {
  /** Under their repositories, as they come; else with their full names, one to a line. */
  readonly isTree: boolean;
  /** With the digest of each, in full. */
  readonly digests: boolean;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}

const nameWidth = 23;
const columns = '   SIZE  SHARED    USED CHECKED  SOURCE    STATE';

/** Images as lines for people, within 80 columns but for long names; each as it comes. */
export class ImageTable {
  readonly #options: ImageTableOptions;
  #upstream: string | undefined;
  #repository: string | undefined;
  #hasHead = false;

  constructor(options: ImageTableOptions) {
    this.#options = options;
  }

  /** The lines of one image, with what has to stand before it. */
  lines(image: ListedImage): string[] {
    const { isTree, digests } = this.#options;
    const indent = isTree ? 4 : 0;
    return [
      ...this.#head(image),
      ...wrapped(isTree ? shortName(image) : image.name, { indent, rest: this.#figures(image) }),
      ...(digests ? [`${' '.repeat(indent + 2)}${image.digest}`] : []),
      ...image.attachments.map((attachment) => `${' '.repeat(indent + 2)}+ ${attachmentText(attachment)}`),
    ];
  }

  #head(image: ListedImage): string[] {
    const lines = this.#hasHead ? [] : [`${'IMAGE'.padEnd(nameWidth)}${columns}`];
    this.#hasHead = true;
    if (!this.#options.isTree) return lines;
    if (image.upstream !== this.#upstream) {
      lines.push(image.upstream);
      this.#repository = undefined;
    }
    if (image.repository !== this.#repository) lines.push(`  ${image.repository}`);
    this.#upstream = image.upstream;
    this.#repository = image.repository;
    return lines;
  }

  #figures({ storedBytes, sharedBytes, usedAt, checkedAt, source, ...image }: ListedImage): string {
    const age = (time: string | null): string =>
      time === null ? '–' : shownAge(this.#options.now() - Date.parse(time));
    return [
      shownBytes(storedBytes).padStart(7),
      ` ${shownBytes(sharedBytes).padStart(7)}`,
      ` ${age(usedAt).padStart(7)}`,
      ` ${age(checkedAt).padStart(7)}`,
      `  ${(source ?? '–').padEnd(8)}`,
      `  ${stateText(image)}`,
    ].join('');
  }
}

/** A pin that no image in the list tells of. */
export function pinText({ name, stored }: ListedPin): string {
  return `${name} pinned, ${stored ? 'and a part of what is here' : 'not here yet'}`;
}

/** The last line: what has been listed, and what the whole cache holds. */
export function totalText({ images, listed, repositories, blobs, bytes }: ListTotal): string {
  const some = listed < images ? `the first ${listed} of ` : '';
  return `${some}${images} ${plural(images, 'image')} in ${repositories} ${repositories === 1 ? 'repository' : 'repositories'}; the cache has ${blobs} ${plural(blobs, 'blob')}, ${shownBytes(bytes)}`;
}

function stateText({ state, pinned }: Pick<ListedImage, 'state' | 'pinned'>): string {
  return pinned === null ? state : `${state} pinned`;
}

function shortName({ tag, digest }: ListedImage): string {
  return tag ?? `@${shownDigest(digest)}`;
}

function attachmentText({ digest, artifactType, stored }: ListedAttachment): string {
  return `${shownDigest(digest)} ${artifactType ?? 'of an unknown type'}${stored ? '' : ' (not here)'}`;
}

/** A name that is too long for its column has a line for itself. */
function wrapped(name: string, { indent, rest }: { readonly indent: number; readonly rest: string }): string[] {
  const first = `${' '.repeat(indent)}${name}`;
  return first.length < nameWidth ? [first.padEnd(nameWidth) + rest] : [first, ' '.repeat(nameWidth) + rest];
}
