import { send } from '../hosted/support.ts';
import type { LocalImage } from '../support/images.ts';

/** Pushes an image with credentials. */
export async function pushAs(
  site: { readonly origin: string },
  headers: Readonly<Record<string, string>>,
  { repository, image, tag }: { readonly repository: string; readonly image: LocalImage; readonly tag: string },
): Promise<void> {
  for (const { digest, bytes } of image.blobs) {
    const target = `/v2/${repository}/blobs/uploads/?digest=${digest}`;
    const { status } = await send(site, ['POST', target], { headers, body: bytes });
    if (status !== 201) throw new Error(`the push of a blob was answered with ${status}`);
  }
  const manifest = { headers: { ...headers, 'content-type': image.mediaType }, body: image.bytes };
  const { status } = await send(site, ['PUT', `/v2/${repository}/manifests/${tag}`], manifest);
  if (status !== 201) throw new Error(`the push of a manifest was answered with ${status}`);
}
