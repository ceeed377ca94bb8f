import type { ExportedImage } from '../../archive/archive-writer.ts';
import type { Platform } from '../../oci/platform.ts';
import type { WantedImages } from './fetch.ts';

/** Which parts of an image to export. */
export interface ExportChoice {
  /** Empty: every platform that is here. */
  readonly platforms: readonly Platform[];
  /** Signatures and whatever else goes with an image. */
  readonly referrers: boolean;
  /** Layers that registries need not hold. */
  readonly nondistributable: boolean;
}

/** Images to export, and which. */
export type ExportParameters = WantedImages & ExportChoice;

/** What an export reports, image by image. */
export type ExportEvent =
  | { readonly kind: 'image'; readonly image: ExportedImage }
  /** A signature or the like of which not everything is here: its image is taken along without it. */
  | { readonly kind: 'left-out'; readonly name: string; readonly reason: string };
