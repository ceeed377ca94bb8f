import { RegistryError } from '../../../oci/error.ts';
import type { Catalog } from '../../../store/catalog/catalog.ts';
import type { Room } from '../../../store/eviction/room.ts';
import type { WalkedImage } from './image-walk.ts';

/** Keeps images from being evicted until all images of a fetch are here: what is reported at its end is there. */
export class ReservedRoom implements Disposable {
  readonly #room: Pick<Room, 'reserve'>;
  readonly #catalog: Catalog;
  readonly #reserved = new DisposableStack();

  constructor({ room, catalog }: { readonly room: Pick<Room, 'reserve'>; readonly catalog: Catalog }) {
    this.#room = room;
    this.#catalog = catalog;
  }

  /** @throws RegistryError if there is no room for an image beside the others; the signal's reason */
  async take({ manifestDigests, blobs }: WalkedImage, signal: AbortSignal): Promise<void> {
    const manifests = manifestDigests.map((digest) => ({ digest, bytes: 0, isStored: true }));
    const parts = blobs.map(({ digest, size }) => ({
      digest,
      bytes: Math.max(0, size),
      isStored: this.#catalog.blobs.has(digest),
    }));
    const reserved = await this.#room.reserve([...manifests, ...parts], signal);
    if (reserved === undefined) {
      throw new RegistryError(
        'no-room',
        'cache.maxSize has no room for it beside what is pinned and what else is being fetched',
      );
    }
    this.#reserved.use(reserved);
  }

  [Symbol.dispose](): void {
    this.#reserved.dispose();
  }
}
