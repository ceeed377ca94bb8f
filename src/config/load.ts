import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Config } from './config.ts';
import { readYaml, type YamlDocument } from './document.ts';
import { Origins, type Override } from './origins.ts';
import { ConfigError, formatProblem } from './problems.ts';
import { resolveConfig } from './resolve.ts';
import { jsonSchema, parseConfig } from './schema.ts';
import { type ConfigPath, fixedKeys, type SchemaNode, type SchemaProblem, schemaNode } from './schema-node.ts';

/** The settings that command-line flags can give, as the user typed them. */
export interface ConfigFlags {
  /** Path of the configuration file. */
  readonly config?: string | undefined;
  readonly listen?: string | undefined;
  readonly cacheDir?: string | undefined;
  readonly redis?: string | undefined;
  readonly logLevel?: string | undefined;
}

/** Where a configuration is read from. */
export interface ConfigSources {
  readonly flags: ConfigFlags;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Relative paths of flags, environment and defaults count from here. */
  readonly workingDirectory: string;
}

/** A configuration with its history. */
export interface LoadedConfig {
  readonly config: Config;
  /** The file as it was named; `undefined` where there was none. */
  readonly file: string | undefined;
  readonly origins: Origins;
}

/**
 * Reads the configuration: flags go over the environment, that over the file (`--config`, `MILLPOND_CONFIG`, or
 * `millpond.yaml` in the working directory), that over the defaults.
 * @throws ConfigError with every problem found
 */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const { file, document } = await readConfigFile(sources);
  const root = jsonSchema();
  const overrides = readOverrides(sources, root);
  const origins = new Origins({ file, document, overrides });
  if (document !== undefined && document.problems.length > 0) {
    throw new ConfigError(document.problems.map(({ line, message }) => `${file}:${line}: ${message}`));
  }
  const data = fillEmptySections(document?.data ?? {}, [], root);
  if (typeof data !== 'object' || data === null || Array.isArray(data)) {
    throw new ConfigError([`${file}:1: a configuration is a mapping (key: value)`]);
  }
  const written = overrides.reduce<object>(withOverride, data);
  const parsed = parseConfig(written);
  if ('problems' in parsed) throw refused(parsed.problems, origins);
  const { workingDirectory } = sources;
  const folder = file === undefined ? workingDirectory : dirname(resolve(workingDirectory, file));
  const { config, problems } = resolveConfig(parsed.config, { folder, workingDirectory, origins, root });
  if (problems.length > 0) throw refused(problems, origins);
  return { config, file, origins };
}

function refused(problems: readonly SchemaProblem[], origins: Origins): ConfigError {
  const lineOf = (problem: SchemaProblem): number => {
    const origin = origins.nearest(problem.path);
    return origin.kind === 'file' ? origin.line : 0;
  };
  const inOrder = problems.toSorted((one, other) => lineOf(one) - lineOf(other));
  return new ConfigError(inOrder.map((problem) => formatProblem(problem, origins)));
}

async function readConfigFile(
  sources: ConfigSources,
): Promise<{ file: string | undefined; document: YamlDocument | undefined }> {
  const { flags, environment, workingDirectory } = sources;
  const named = flags.config ?? (isSet(environment.MILLPOND_CONFIG) ? environment.MILLPOND_CONFIG : undefined);
  const file = named ?? 'millpond.yaml';
  try {
    return { file, document: readYaml(await readFile(resolve(workingDirectory, file), 'utf8')) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && named === undefined) return { file: undefined, document: undefined };
    throw new ConfigError([`${file}: the configuration file cannot be read: ${reason(code)}`], { cause: error });
  }
}

function reason(code: string | undefined): string {
  const reasons: Readonly<Record<string, string>> = {
    ENOENT: 'there is no such file',
    EISDIR: 'it is a folder',
    EACCES: 'permission denied',
  };
  return (code && reasons[code]) ?? code ?? 'unknown error';
}

function readOverrides({ flags, environment }: ConfigSources, root: SchemaNode): readonly Override[] {
  const found: Override[] = [];
  for (const [path, { 'x-flag': flag, 'x-environment': variable }] of fixedKeys(root)) {
    const fromFlag = flag && flags[optionOf(flag)];
    const fromEnvironment = variable && environment[variable];
    if (flag && fromFlag !== undefined) found.push({ path, value: fromFlag, origin: { kind: 'flag', flag } });
    else if (variable && isSet(fromEnvironment))
      found.push({ path, value: fromEnvironment, origin: { kind: 'environment', variable } });
  }
  return found;
}

/** `--cache-dir` is `cacheDir` among the options of a command line. */
function optionOf(flag: string): keyof ConfigFlags {
  return flag.slice(2).replaceAll(/-(.)/g, (_, letter: string) => letter.toUpperCase()) as keyof ConfigFlags;
}

function withOverride(data: object, override: Pick<Override, 'path' | 'value'>): object {
  const [first, ...rest] = override.path as readonly string[];
  const below: unknown = (data as Record<string, unknown>)[first!];
  if (rest.length === 0) return { ...data, [first!]: override.value };
  // A value that is no section is left as it is, for the schema to refuse.
  if (below !== undefined && (typeof below !== 'object' || below === null || Array.isArray(below))) return data;
  return { ...data, [first!]: withOverride(below ?? {}, { path: rest, value: override.value }) };
}

/** A section with nothing under it (`ghcr.io:`) is `null` in YAML and means: all defaults. */
function fillEmptySections(data: unknown, path: ConfigPath, root: SchemaNode): unknown {
  if (data === null) return schemaNode(root, path)?.type?.includes('object') ? {} : data;
  // Nothing valid is this deep: an alias that holds itself ends here.
  if (typeof data !== 'object' || Array.isArray(data) || path.length > 16) return data;
  return Object.fromEntries(
    Object.entries(data).map(([key, value]) => [key, fillEmptySections(value, [...path, key], root)]),
  );
}

function isSet(value: string | undefined): value is string {
  return value !== undefined && value !== '';
}
