import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Writes a file of that many bytes into the folder and removes it. The pages of memory that it had are the next ones that the
 * system gives to files. A virtual machine's host may take unused memory back; the first use of a page then costs a fault of the
 * host (1.1 s/GB on one machine), which a machine in use does not have.
 */
export async function usePages(directory: string, bytes: number): Promise<void> {
  const path = join(directory, 'pages');
  const chunk = Buffer.alloc(1024 * 1024, 1);
  await using file = await open(path, 'w', 0o600);
  for (let written = 0; written < bytes; written += chunk.length) await file.write(chunk);
  await rm(path);
}
