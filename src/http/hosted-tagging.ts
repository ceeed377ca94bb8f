import { parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { tagParameters } from '../oci/push-request.ts';
import { isRepository } from '../oci/reference.ts';
import { type HostedRequest, notOffered } from './hosted-request.ts';
import { emptyReply } from './replies.ts';

/** The repository whose manifests the path of our extension tags; `undefined` for any other path. @throws RegistryError NAME_INVALID */
export function taggedRepository(path: string): string | undefined {
  const [, name] = /^\/v2\/(.+)\/_millpond\/manifests\/tags$/.exec(path) ?? [];
  if (name !== undefined && !isRepository(name)) {
    throw new RegistryError('bad-name', 'not a repository name by the grammar of the distribution-spec', {
      detail: { name: name.slice(0, 300) },
    });
  }
  return name;
}

/** Lets tags stand for a manifest that is here, without its bytes (docs/extensions/_millpond.md, "Tags"). */
export async function answerTagging(asked: HostedRequest): Promise<void> {
  const { ctx, exchange, hosted, repository, sender } = asked;
  if (ctx.method !== 'PUT') throw notOffered(ctx.method, 'PUT');
  const digest = parseDigest(new URLSearchParams(exchange.query).get('digest') ?? '');
  const tags = tagParameters(exchange.query);
  if (tags.length === 0) throw new RegistryError('bad-reference', 'the tags are missing: ?tag=');
  await hosted.manifests.tag(repository, digest, tags);
  const headers = ['Location', `/v2/${repository}/manifests/${digest}`, 'Docker-Content-Digest', digest];
  for (const tag of tags) headers.push('OCI-Tag', tag);
  await sender.send(ctx.res, emptyReply(201, headers), exchange);
}
