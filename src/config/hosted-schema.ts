import { z } from 'zod';
import { acceptedSizes, parseBytes, sizePattern } from './units.ts';
import {
  describeFound,
  duration,
  flag,
  integer,
  originUrl,
  repositoryPattern,
  tagPattern,
  text,
  ValueError,
  type ValueKind,
} from './value-kinds.ts';
import { value } from './value-schema.ts';

/** Bytes of repositories: the first pattern that fits a repository decides. */
export interface QuotaRule {
  readonly pattern: string;
  readonly bytes: number;
}

/** One size for each repository, or sizes by pattern. */
const quotaKind: ValueKind<readonly QuotaRule[]> = {
  jsonSchema: {
    anyOf: [
      { type: 'string', pattern: sizePattern },
      { type: 'object', additionalProperties: { type: 'string', pattern: sizePattern } },
    ],
  },
  parse(found) {
    if (typeof found !== 'object' || found === null || Array.isArray(found)) {
      return [{ pattern: '**', bytes: bytesOf(found) }];
    }
    return Object.entries(found).map(([pattern, size]) => ({
      pattern: repositoryPattern.parse(pattern),
      bytes: bytesOf(size),
    }));
  },
};

function bytesOf(found: unknown): number {
  const bytes = typeof found === 'string' ? parseBytes(found) : undefined;
  if (bytes !== undefined) return bytes;
  throw new ValueError(
    `found ${describeFound(found)}; accepted: ${acceptedSizes}, or sizes by pattern of repositories`,
  );
}

/** Repositories of our own. */
export const hostedSchema = z.strictObject({
  repositories: z
    .array(value(repositoryPattern))
    .min(1)
    .describe(
      'Repositories that live here alone and take pushes, such as `local/**`. A pattern may begin with a registry name of its own, for clients that send it as `ns`.',
    ),
  owner: value(originUrl)
    .optional()
    .describe(
      'With `redis`: the replica whose disk keeps the hosted repositories, by its `cluster.advertise`. The other replicas pass pushes on to it.',
    )
    .meta({ 'x-restart': true }),
  uploadUrl: value(originUrl)
    .optional()
    .describe(
      'Where clients send the bytes of a blob: the origin in the `Location` of uploads, such as another listener or the owner itself. Default: where they have begun.',
    ),
  quota: value(quotaKind)
    .optional()
    .describe(
      'Maximum bytes of a repository: one size, or sizes by pattern, of which the first that fits decides. Uploads that have not ended count. A push past it gets 413 `QUOTA_EXCEEDED`.',
    ),
  immutableTags: z
    .array(value(tagPattern))
    .prefault([])
    .describe('Tags that are never moved or deleted once they are pushed, such as `v*`.'),
  mediaTypes: z
    .array(value(text('a media type')))
    .prefault([])
    .describe('Types of manifests, configs and artifacts that may be pushed; empty: all. Others get 415.'),
  sparseIndexes: value(flag)
    .prefault(false)
    .describe(
      'Accept an index although the repository does not have all the manifests that it lists, such as one platform of many. Otherwise it gets 404 `MANIFEST_BLOB_UNKNOWN`.',
    ),
  unusedBlobGrace: value(duration({ minMs: 60_000 }))
    .prefault('24h')
    .describe(
      'A blob that no manifest of its repository names is removed this long after it was last pushed, mounted or asked for with HEAD.',
    ),
  maxUploads: value(integer(1, 1_000_000))
    .prefault(1000)
    .describe(
      'Uploads that have begun and not ended, of one caller, or of one client address where nothing is shown. Those left alone for 10 minutes give way to new ones; past the limit, beginning one gets 429 `TOOMANYREQUESTS`.',
    ),
  uploadExpiry: value(duration({ minMs: 1000 }))
    .prefault('7d')
    .describe('An upload that receives nothing for this long is removed.'),
});
