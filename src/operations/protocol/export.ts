import type { ExportedImage } from '../../archive/archive-writer.ts';
import type { Platform } from '../../oci/platform.ts';
import type { WantedImages } from './fetch.ts';

/** Which parts of an image to export. */
export interface ExportChoice {
  /** Empty: every stored platform. */
  readonly platforms: readonly Platform[];
  /** Signatures and other attachments. */
  readonly referrers: boolean;
  /** Layers that registries need not hold. */
  readonly nondistributable: boolean;
}

/** The images to export, and which parts of them. */
export type ExportParameters = WantedImages & ExportChoice;

/** The events of an export, image by image. */
export type ExportEvent =
  | { readonly kind: 'image'; readonly image: ExportedImage }
  /** It is exported, and clients that pull it get this warning. */
  | { readonly kind: 'warned'; readonly name: string; readonly warning: string }
  /** An incomplete attachment: its image is exported without it. */
  | { readonly kind: 'left-out'; readonly name: string; readonly reason: string };
