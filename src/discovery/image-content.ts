import { readFile, stat } from 'node:fs/promises';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { parseJson } from '../oci/json.ts';

/** Larger configs are not read, in bytes. */
const maxConfigBytes = 1024 * 1024;
const configLimits = { maxValues: 50_000, maxDepth: 100 };
/** Most steps of a history that are shown. */
const maxSteps = 500;

/** A step of how an image was made (image-spec, "Image Configuration": `history`). */
export interface HistoryStep {
  readonly created: string | null;
  readonly createdBy: string | null;
  readonly comment: string | null;
  /** Whether it made no layer. */
  readonly empty: boolean;
}

/** The facts in the config of an image. */
export interface ImageConfig {
  readonly platform: string | null;
  readonly created: string | null;
  readonly history: readonly HistoryStep[];
}

/** The bytes of a stored manifest. @returns `undefined` if the file is gone, or holds something else by now */
export async function readStored(path: string, digest: Digest): Promise<Buffer | undefined> {
  try {
    const bytes = await readFile(path);
    return digestOf(bytes, digestAlgorithm(digest)) === digest ? bytes : undefined;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Reads the config of an image. @returns `undefined` if the file is gone, too large, or no config of an image */
export async function readImageConfig(path: string): Promise<ImageConfig | undefined> {
  let config: unknown;
  try {
    if ((await stat(path)).size > maxConfigBytes) return undefined;
    config = parseJson(await readFile(path), configLimits);
  } catch {
    // A file that has just gone, or a config of an artifact, which may be anything.
    return undefined;
  }
  if (typeof config !== 'object' || config === null) return undefined;
  const { os, architecture, variant, created, history } = config as Readonly<Record<string, unknown>>;
  const parts = [os, architecture, variant].filter((part) => typeof part === 'string' && part !== '');
  return {
    platform: typeof os === 'string' && typeof architecture === 'string' ? parts.join('/') : null,
    created: textOf(created),
    history: Array.isArray(history) ? history.slice(0, maxSteps).map(stepOf) : [],
  };
}

function stepOf(step: unknown): HistoryStep {
  const { created, created_by, comment, empty_layer } = (step ?? {}) as Readonly<Record<string, unknown>>;
  return {
    created: textOf(created),
    createdBy: textOf(created_by),
    comment: textOf(comment),
    empty: empty_layer === true,
  };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value.slice(0, 4_000) : null;
}
