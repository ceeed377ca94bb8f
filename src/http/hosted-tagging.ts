import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import { tagParameters } from '../oci/push-request.ts';
import type { ExtensionEndpoint } from './extension-request.ts';
import { emptyReply } from './replies.ts';

/** Lets tags stand for a manifest that is here, without its bytes (docs/extensions/_millpond.md, `manifests/tags`). */
export function hostedTagging(hosted: HostedRegistry): ExtensionEndpoint {
  return {
    extension: '_millpond',
    component: 'manifests',
    module: 'tags',
    listed: 'manifests/tags',
    levels: ['repository'],
    methods: ['PUT'],
    action: 'push',
    isForHosted: true,
    async answer({ ctx, exchange, sender, parameters, repository }) {
      if (repository === undefined) throw new Error('the endpoint is one of repositories');
      const digest = parseDigest(parameters.get('digest') ?? '');
      const tags = tagParameters(exchange.query);
      if (tags.length === 0) throw new RegistryError('bad-reference', 'the tags are missing: ?tag=');
      await hosted.manifests.tag(repository.key, digest, tags);
      const headers = ['Location', `/v2/${repository.key}/manifests/${digest}`, 'Docker-Content-Digest', digest];
      for (const tag of tags) headers.push('OCI-Tag', tag);
      await sender.send(ctx.res, emptyReply(201, headers), exchange);
    },
  };
}
