import { z } from 'zod';
import { RegistryError } from '../oci/error.ts';
import { formatPlatform, parsePlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { parseTagSelector } from '../oci/tag-selector.ts';
import type { InForce } from './in-force.ts';
import { describeFound, flag, integer, ValueError, type ValueKind } from './value-kinds.ts';
import { schemaOf, value } from './value-schema.ts';

/** An image as a person writes it. */
const imageName: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    try {
      if (typeof found === 'string') parseReference(found);
      if (typeof found === 'string') return found;
    } catch (error) {
      if (!(error instanceof RegistryError)) throw error;
    }
    throw refusal(found, 'the name of an image, such as nginx:1.27 or ghcr.io/org/app@sha256:…');
  },
};

const tagSelector: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    if (typeof found === 'string' && parseTagSelector(found)) return found;
    throw refusal(found, 'a tag, a pattern such as 1.27.*, or a range of versions such as ">=1.2 <2", in quotes');
  },
};

const platformName: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    const platform = typeof found === 'string' ? parsePlatform(found) : undefined;
    if (platform) return formatPlatform(platform);
    throw refusal(found, 'a platform, such as linux/amd64 or linux/arm/v7');
  },
};

/** Platforms of images; in every place where they can be chosen. */
export const platformsSchema = z.array(value(platformName)).min(1);

const entrySchema = z.strictObject({
  name: value(imageName).describe('The image. Without `tags`, with its tag or digest; default: `latest`.'),
  tags: z
    .array(value(tagSelector))
    .min(1)
    .optional()
    .describe('Tags, patterns (`*` matches any characters) and version ranges (`>=1.2 <2`, `~1.4`, `^2`).'),
  limit: value(integer(1, 100_000)).optional().describe('Only this many of the newest of these tags. Default: all.'),
  platforms: platformsSchema.optional().describe('Only these images of an index. Default: all.'),
  referrers: value(flag).optional().describe('Whether to fetch its signatures and other referrers. Default: true.'),
});

/** A list of images: names, or mappings that say more. */
export const imageListSchema = z.array(
  z
    .preprocess((found) => (isShort(found) ? { name: found } : found), entrySchema)
    .meta({ ...schemaOf(entrySchema), type: ['string', 'object'] } as never),
);

/** One entry of a list of images. */
export type ImageEntry = InForce<z.output<typeof entrySchema>>;

// A number or null in place of a name is reported as such, not as a missing mapping.
function isShort(found: unknown): boolean {
  return typeof found !== 'object' || found === null;
}

function refusal(found: unknown, accepted: string): ValueError {
  return new ValueError(`found ${describeFound(found)}; accepted: ${accepted}`);
}
