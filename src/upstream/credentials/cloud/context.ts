import { readFile } from 'node:fs/promises';
import type { Environment } from '../../../transport/proxies.ts';
import { type ServiceClient, ServiceError } from '../service-client.ts';

/** The parts that obtain a credential from a cloud. */
export interface CloudContext {
  readonly services: ServiceClient;
  readonly environment: Environment;
  /** The URL of the registry. */
  readonly endpoint: URL;
  readonly now: () => number;
}

/** A variable that is set and not empty. */
export function variable(environment: Environment, name: string): string | undefined {
  const value = environment[name];
  return value === '' ? undefined : value;
}

/** The text of a file with a token or key, without white space around it. @throws ServiceError without the text */
export async function secretText(file: string, name: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new ServiceError(`needs ${name}, and ${file} cannot be read (${error.code})`);
  });
  if (text.trim() === '') throw new ServiceError(`needs ${name}, and ${file} is empty`);
  return text.trim();
}
