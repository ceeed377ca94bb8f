import type { ImageDetails } from '../discovery/image-details.ts';
import { RegistryError } from '../oci/error.ts';
import { type ManifestReference, parseManifestReference } from '../oci/request.ts';
import {
  type ExtensionEndpoint,
  type ExtensionRequest,
  type NamedRepository,
  unknownEndpoint,
} from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';

const imageType = 'application/vnd.millpond.image.v1+json';

/** All that is known here of one image. */
export function imageEndpoint(details: ImageDetails): ExtensionEndpoint {
  return {
    extension: '_millpond',
    component: 'images',
    module: undefined,
    listed: 'images/<reference>',
    levels: ['registry', 'repository'],
    methods: ['GET', 'HEAD'],
    answer: (request) => answerImage(details, request),
  };
}

async function answerImage(details: ImageDetails, request: ExtensionRequest): Promise<void> {
  const { ctx, exchange, sender, mayRead } = request;
  const { repository, reference } = askedFor(request);
  // A policy may let a caller pull whose rights only the upstream knows: it would have to be asked.
  if (!mayRead(repository.key)) throw new RegistryError('forbidden', 'no policy of this mirror allows this to you');
  const found = await details.of({ repository, reference, mayRead });
  if (found === undefined) {
    throw new RegistryError('not-found', 'this image is not stored here', { code: 'MANIFEST_UNKNOWN' });
  }
  await sender.send(ctx.res, jsonReply(found, { ...conditionsOf(ctx, exchange), contentType: imageType }), exchange);
}

/** `<reference>` behind a repository, or `<name>:<tag>` or `<name>@<digest>` alone. @throws RegistryError */
function askedFor(request: ExtensionRequest): { repository: NamedRepository; reference: ManifestReference } {
  const { path, repository, open } = request;
  if (path.rest === '') throw unknownEndpoint(path);
  if (repository !== undefined) return { repository, reference: parseManifestReference(path.rest) };
  const name = path.rest.replaceAll(/%3a/gi, ':').replace(/%40/, '@');
  const [, repositoryName = '', tag, digest] = /^([^@]*?)(?::([^:/@]*))?(?:@(.*))?$/.exec(name) ?? [];
  return { repository: open(repositoryName), reference: parseManifestReference(digest ?? tag ?? 'latest') };
}
