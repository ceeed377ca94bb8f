import type { Action } from '../access/caller.ts';
import { type PushRequest, parsePushRequest } from '../oci/push-request.ts';
import type { Exchange } from './exchange.ts';

/** A request for a repository, if that is a hosted one. */
export type HostedTarget = {
  readonly repository: string;
  /** The action that the caller needs a right to. */
  readonly action: Action;
} & ({ readonly kind: 'upload'; readonly upload: PushRequest } | { readonly kind: 'content' });

/**
 * Reads which repository a request names: that of the path; with `ns`, on a pull, that of the registry it names.
 * @returns `undefined` for a path that names none. @throws RegistryError NAME_INVALID, DIGEST_INVALID
 */
export function hostedTarget({ path, query }: Exchange, method: string): HostedTarget | undefined {
  const upload = parsePushRequest(path, query);
  // A caller that may push may also cancel.
  if (upload !== undefined) return { kind: 'upload', repository: upload.name, action: 'push', upload };
  const [, name] = /^\/v2\/(.+)\/(?:manifests|blobs|referrers|tags)\/[^/]+$/.exec(path) ?? [];
  if (name === undefined) return undefined;
  const isPull = method === 'GET' || method === 'HEAD';
  const ns = isPull ? new URLSearchParams(query).get('ns') : null;
  const action = isPull ? 'pull' : method === 'DELETE' ? 'delete' : 'push';
  return { kind: 'content', repository: ns === null ? name : `${ns}/${name}`, action };
}
