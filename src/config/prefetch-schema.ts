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
      .describe('When, as a cron expression in the time zone of the process: `0 3 * * *` is every night at 3.'),
    every: value(duration({ minMs: 1_000 }))
      .optional()
      .describe('In place of `schedule`: at the start, and then this long after the last beginning.'),
    images: imageListSchema
      .optional()
      .describe('The images: names, or mappings with `name` and more, as in a file of `millpond fetch --file`.'),
    file: value(path('file')).optional().describe('A file of such images, read each time.'),
    platforms: platformsSchema
      .optional()
      .describe('Only these images of an index, where an entry does not say otherwise. Default: all.'),
    referrers: value(flag)
      .prefault(true)
      .describe('Whether signatures and other referrers come with an image, where its entry does not say otherwise.'),
  }),
);
