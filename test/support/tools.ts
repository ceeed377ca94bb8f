import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe } from 'vitest';

// Where scripts/test-tools.mjs unpacks programs beside the system.
const unpackedTools = fileURLToPath(new URL('../../node_modules/.cache/test-tools/bin', import.meta.url));

/** What the tests of one describe run against: programs by name, or the right to do what only root may. */
export type Requirement = 'root' | (string & {});

/** The path of an installed program, or undefined. */
export function findTool(program: string): string | undefined {
  const folders = [unpackedTools, ...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.map((folder) => join(folder, program)).find(isExecutable);
}

/**
 * The path of an installed program.
 * @throws Error when it is not installed; a describe made by {@link describeWith} never gets that far
 */
export function toolPath(program: string): string {
  const path = findTool(program);
  if (path === undefined) throw new Error(`${program} is not installed`);
  return path;
}

/** Which of the requirements this machine does not meet. */
export function missingOf(requirements: readonly Requirement[]): string[] {
  return requirements.filter((requirement) =>
    requirement === 'root' ? process.getuid?.() !== 0 : findTool(requirement) === undefined,
  );
}

/** A `describe` whose tests need programs: where one is missing they are skipped, and the name says which. */
export function describeWith(requirements: readonly Requirement[], name: string, body: () => void): void {
  const missing = missingOf(requirements);
  if (missing.length === 0) describe(name, body);
  else describe.skip(`${name} (skipped: needs ${missing.join(', ')})`, body);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
