import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { RegistryError } from '../oci/error.ts';
import { type Platform, parsePlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { ImageNames, type Untagged } from '../operations/owner/administration/image-names.ts';
import { UpstreamTable } from '../upstream/table.ts';
import { type CommandIo, UsageError } from './command.ts';

/** Reads a file argument; `-` is standard input. @throws Error in one sentence */
export async function readInput(file: string, { stdin, workingDirectory }: CommandIo): Promise<string> {
  if (file === '-') return await text(stdin);
  try {
    return await readFile(resolve(workingDirectory, file), 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`${file} cannot be read: ${code ?? message}`, { cause: error });
  }
}

/**
 * Parses the value of `--platform`, a list with commas; without the option, an empty list: all.
 * @throws UsageError, also for an empty value: a script with an unset variable does not mean all
 */
export function readPlatforms(list: string | undefined): Platform[] {
  if (list === undefined) return [];
  const parts = list.split(',').map((part) => part.trim());
  const named = parts.filter((part) => part !== '');
  return (named.length > 0 ? named : ['']).map((part) => {
    const platform = parsePlatform(part);
    if (platform) return platform;
    throw new UsageError(`--platform: "${part}" is not a platform such as linux/amd64 or linux/arm/v7`);
  });
}

/** @throws UsageError if an argument cannot be the name of an image */
export function requireImage(name: string): void {
  try {
    parseReference(name);
  } catch (error) {
    if (error instanceof RegistryError) throw new UsageError(`${name} is not the name of an image: ${error.message}`);
    throw error;
  }
}

/** @throws UsageError if a text can be neither an image name nor a pattern, whatever is configured */
export function requireSelections(images: readonly string[], untagged: Untagged): void {
  const names = new ImageNames({ upstreams: new UpstreamTable([]), isStored: () => true });
  for (const image of images) {
    try {
      names.read(image, untagged);
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
      // The configured registries are not known here.
      if (error.reason !== 'unknown-upstream') throw new UsageError(error.message);
    }
  }
}
