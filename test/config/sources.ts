import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConfigFlags, type LoadedConfig, loadConfig } from '../../src/config/load.ts';
import { ConfigError } from '../../src/config/problems.ts';

/** A working directory for one test, removed at its end. */
export class ConfigFolder {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<ConfigFolder> {
    return new ConfigFolder(await mkdtemp(join(tmpdir(), 'millpond-config-')));
  }

  async write(name: string, text: string): Promise<string> {
    const path = join(this.path, name);
    await writeFile(path, text);
    return path;
  }

  load(
    options: { readonly flags?: ConfigFlags; readonly environment?: Readonly<Record<string, string>> } = {},
  ): Promise<LoadedConfig> {
    const { flags = {}, environment = {} } = options;
    return loadConfig({ flags, environment, workingDirectory: this.path });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true });
  }
}

/** Loads a text as `millpond.yaml`. */
export async function loadText(text: string): Promise<LoadedConfig> {
  await using folder = await ConfigFolder.create();
  await folder.write('millpond.yaml', text);
  return await folder.load();
}

/** The problems of a text as `millpond.yaml`; an empty list where it has none. */
export async function problemsOf(text: string): Promise<readonly string[]> {
  try {
    await loadText(text);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}
