import { type Digest, isDigest } from './digest.ts';

const attachedTag = /^(sha256|sha512)-([0-9a-f]{64}|[0-9a-f]{128})(?:\.(?:sig|att|sbom))?$/;

/**
 * The manifest that a tag belongs to by its name: cosign's signatures, attestations and SBOMs, and the referrers tag
 * (distribution-spec, "Referrers Tag Schema"; a truncated sha512 digest does not count).
 */
export function subjectOfTag(tag: string): Digest | undefined {
  const [, algorithm, hex] = attachedTag.exec(tag) ?? [];
  const digest = `${algorithm}:${hex}`;
  return algorithm !== undefined && isDigest(digest) ? digest : undefined;
}
