import { type Digest, digestOf } from './digest.ts';

/** `{}`, the config of artifacts that have none (image-spec, "Guidance for an Empty Descriptor"). */
export const emptyBlob: Buffer = Buffer.from('{}');

export const emptyBlobDigest: Digest = digestOf(emptyBlob, 'sha256');
