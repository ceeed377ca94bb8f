import type { Context } from 'koa';
import type { Action } from '../access/caller.ts';
import { RegistryError } from '../oci/error.ts';
import type { ExtensionPath } from '../oci/extension-path.ts';
import type { Exchange } from './exchange.ts';
import type { Sender } from './send.ts';

/** Where an endpoint of an extension is: under `/v2/`, or under the name of a repository. */
export type ExtensionLevel = 'registry' | 'repository';

/** A repository as the mirror names it. */
export interface NamedRepository {
  /** `docker.io/library/nginx`, or the name of a hosted one. */
  readonly key: string;
  readonly isHosted: boolean;
}

/** A request of an extension. */
export interface ExtensionRequest {
  readonly ctx: Context;
  readonly exchange: Exchange;
  readonly sender: Sender;
  readonly path: ExtensionPath;
  readonly parameters: URLSearchParams;
  /** At the level of a repository, which the caller may read. */
  readonly repository: NamedRepository | undefined;
  /** A repository that the request names elsewhere than in its path, which the caller may pull from. @throws RegistryError */
  readonly open: (name: string) => NamedRepository;
  /** Whether the caller may know of a repository and what is in it. @param key as {@link NamedRepository} */
  readonly mayRead: (key: string) => boolean;
  /** Whether the caller may still do with a repository what the endpoint does: for answers that go on for long. */
  readonly isAllowed: (key: string) => boolean;
}

/** An endpoint that is offered as configured now. */
export interface ExtensionEndpoint {
  /** `_oci` or `_millpond`. */
  readonly extension: string;
  readonly component: string;
  /** The module; `undefined`: what follows the component is up to the endpoint. */
  readonly module: string | undefined;
  /** As discovery lists it, such as `ext/discover` or `images/<reference>`. */
  readonly listed: string;
  readonly levels: readonly ExtensionLevel[];
  readonly methods: readonly string[];
  /** Whether, at the level of the registry, it lists what is in repositories (default false). */
  readonly isList?: boolean;
  /** The action that the caller needs a right to (default `pull`). */
  readonly action?: Action;
  /** Whether it is offered for hosted repositories alone (default false). */
  readonly isForHosted?: boolean;
  /** Whether it is there for the caller (default: for all); for others it is as a component that does not exist. */
  readonly isOfferedTo?: (exchange: Exchange, repository: NamedRepository | undefined) => boolean;
  /** @throws RegistryError */
  readonly answer: (request: ExtensionRequest) => Promise<void>;
}

/** @throws RegistryError EXTENSION_UNKNOWN (404); UNSUPPORTED (404) for `_oci`, as its document says */
export function unknownEndpoint({ extension }: ExtensionPath): RegistryError {
  if (extension === '_oci') {
    return new RegistryError('unknown-extension', 'the extension _oci has no such component here', {
      code: 'UNSUPPORTED',
    });
  }
  return new RegistryError(
    'unknown-extension',
    'this mirror has no such extension, or none of its components at this path: see /v2/_oci/ext/discover',
  );
}
