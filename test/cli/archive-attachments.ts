import { localArtifact, localReferrers } from '../support/images.ts';
import { type LayoutImage } from '../support/layouts.ts';
import { images, index } from './archive-place.ts';

export const signature = localArtifact({ artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' });
export const sbom = localArtifact({ artifactType: 'application/spdx+json', subject: index });
export const sbomSignature = localArtifact({ artifactType: 'application/x-signature', subject: sbom });
export const referrers = localReferrers([{ manifest: sbom, artifactType: 'application/spdx+json' }]);
export const tag = index.digest.replace(':', '-');
export const attached = (name: string) => ({ 'io.millpond.attachment': `docker.io/library/nginx${name}` });
export const everything: LayoutImage[] = [
  ...images,
  { manifest: signature, annotations: attached(`:${tag}.sig`) },
  { manifest: referrers, annotations: attached(`:${tag}`) },
  { manifest: sbomSignature, annotations: attached(`@${sbomSignature.digest}`) },
];
