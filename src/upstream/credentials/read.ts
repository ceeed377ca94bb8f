import { readFile } from 'node:fs/promises';
import { RegistryError } from '../../oci/error.ts';
import { unavailable } from '../failures.ts';
import type { Credential, CredentialContext } from './credential.ts';
import { type DockerEntry, dockerEntry } from './docker-config.ts';
import type { StaticCredentials } from './options.ts';

/**
 * Reads the credential of an upstream from its configured place, at each use.
 * @returns `undefined` if there is none: anonymous; of Docker's `config.json`, possibly the helper that has it
 * @throws RegistryError no-credentials if the source cannot be read
 */
export async function readCredential(
  options: StaticCredentials,
  context: CredentialContext,
): Promise<DockerEntry | undefined> {
  const { upstream } = context;
  try {
    switch (options.kind) {
      case 'inline':
        return basic(options.username, options.password);
      case 'password-file': {
        const text = await readFile(options.passwordFile, 'utf8');
        return basic(options.username, text.replace(/\r?\n$/, ''));
      }
      case 'environment': {
        const password = context.environment[options.passwordVariable];
        if (password !== undefined) return basic(options.username, password);
        throw unavailable(upstream, `has its password in ${options.passwordVariable}, which is not set`, {
          reason: 'no-credentials',
        });
      }
      case 'docker-config':
        return dockerEntry(await readFile(options.path, 'utf8'), context.host);
      default:
        return options satisfies never;
    }
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    throw unavailable(upstream, `has credentials that cannot be read; look at upstreams.${upstream}.auth`, {
      reason: 'no-credentials',
      cause: error,
    });
  }
}

function basic(username: string, password: string): { readonly credential: Credential } {
  return { credential: { kind: 'basic', username, password } };
}
