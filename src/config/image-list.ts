import { readYaml } from './document.ts';
import { type ImageEntry, imageListSchema } from './image-list-schema.ts';
import { Origins } from './origins.ts';
import { ConfigError, formatProblem } from './problems.ts';
import { parseWith, schemaOf } from './value-schema.ts';

/**
 * Reads a list of images, as `millpond fetch --file` takes it.
 * @param file its name, for messages
 * @throws ConfigError with every problem found
 */
export function readImageList(text: string, file: string): readonly ImageEntry[] {
  const document = readYaml(text);
  if (document.problems.length > 0) {
    throw new ConfigError(document.problems.map(({ line, message }) => `${file}:${line}: ${message}`));
  }
  // Nothing but comments is a list of none.
  if (document.data === undefined) return [];
  if (!Array.isArray(document.data)) throw new ConfigError([`${file}:1: a list of images is a list (- name)`]);
  const parsed = parseWith(imageListSchema, document.data, () => schemaOf(imageListSchema));
  if ('value' in parsed) return parsed.value;
  const origins = new Origins({ file, document, overrides: [] });
  throw new ConfigError(parsed.problems.map((problem) => formatProblem(problem, origins)));
}
