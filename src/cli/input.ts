import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import type { CommandIo } from './command.ts';

/** Reads a file that a command is given; `-` is standard input. @throws Error in one sentence */
export async function readInput(file: string, { stdin, workingDirectory }: CommandIo): Promise<string> {
  if (file === '-') return await text(stdin);
  try {
    return await readFile(resolve(workingDirectory, file), 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`${file} cannot be read: ${code ?? message}`, { cause: error });
  }
}
