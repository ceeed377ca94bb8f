import { z } from 'zod';
import { imageListSchema, platformsSchema } from './image-list-schema.ts';
import { cronExpression } from './schedule.ts';
import { duration, flag, path } from './value-kinds.ts';
import { value } from './value-schema.ts';

/** The section `prefetch`. */
export const prefetchSchema = z.array(
  z.strictObject({
    schedule: value(cronExpression)
      .optional()
      .describe('A cron expression in the time zone of the process: `0 3 * * *` is every night at 3.'),
    every: value(duration({ minMs: 1_000 }))
      .optional()
      .describe('Instead of `schedule`: at the start, and then this long after the start of the last run.'),
    images: imageListSchema
      .optional()
      .describe('The images: names, or mappings as in a file for `millpond fetch --file`.'),
    file: value(path('file')).optional().describe('A file with such a list, read for each run.'),
    platforms: platformsSchema
      .optional()
      .describe('Only these images of an index, unless an entry says otherwise. Default: all.'),
    referrers: value(flag)
      .prefault(true)
      .describe('Whether to fetch signatures and other referrers of an image, unless its entry says otherwise.'),
  }),
);
