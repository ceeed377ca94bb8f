import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Writes an executable program of Node into a folder.
 * @param body a module's text; it runs with this Node
 * @returns its path
 */
export async function writeProgram(folder: string, name: string, body: string): Promise<string> {
  const file = join(folder, name);
  // A shebang takes one argument; the text is a module whatever the file is called.
  const script = `${file}.source.mjs`;
  await writeFile(script, body);
  await writeFile(file, `#!/bin/sh\nexec ${process.execPath} ${script} "$@"\n`);
  await chmod(file, 0o755);
  return file;
}
