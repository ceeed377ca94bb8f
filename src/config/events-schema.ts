import { z } from 'zod';
import {
  describeFound,
  duration,
  integer,
  oneOf,
  path,
  repositoryPattern,
  ValueError,
  type ValueKind,
} from './value-kinds.ts';
import { value } from './value-schema.ts';

/** The kinds of events. */
const kinds = [
  'cached',
  'pushed',
  'tagged',
  'untagged',
  'deleted',
  'evicted',
  'quarantined',
  'approved',
  'rejected',
  'upstream-down',
  'upstream-up',
] as const;

/** Where events are sent. */
const receiverUrl: ValueKind<string> = {
  jsonSchema: { type: 'string', pattern: '^https?://' },
  parse(found) {
    const url = typeof found === 'string' && /^https?:\/\//i.test(found) ? URL.parse(found) : null;
    if (url === null || url.username !== '' || url.password !== '' || /[?#]/.test(String(found))) {
      throw new ValueError(
        `found ${describeFound(found)}; accepted: a URL such as https://scanner.example/events, without credentials and without a query`,
      );
    }
    return url.href;
  },
};

const webhookSchema = z.strictObject({
  url: value(receiverUrl).describe('Where events are sent, one in each POST, as CloudEvents in JSON.'),
  secretFile: value(path('file')).describe(
    'A file with the secret that signs events, at least 16 bytes: the receiver knows by it that they come from here.',
  ),
  types: z
    .array(value(oneOf(kinds)))
    .prefault([])
    .describe('Which events; empty: all.'),
  repositories: z
    .array(value(repositoryPattern))
    .prefault(['**'])
    .describe('Of which repositories, by their full names, such as `docker.io/**`.'),
  retryFor: value(duration({ minMs: 1_000 }))
    .prefault('3d')
    .describe('How long an event is tried that the receiver does not take. The events behind it wait.'),
});

/** The section `events`. */
export const eventsSchema = z.strictObject({
  keep: value(integer(1_000, 10_000_000))
    .prefault(100_000)
    .describe('How many of the latest events are kept for streams that resume, and for receivers that are away.'),
  webhooks: z.array(webhookSchema).prefault([]).describe('Receivers of events.').meta({ 'x-restart': true }),
});

/** The section `hold`. */
export const holdSchema = z.array(
  z.strictObject({
    repositories: z
      .array(value(repositoryPattern))
      .min(1)
      .describe('Repositories by their full names, such as `docker.io/**` or `local/**`.'),
    for: value(duration({ minMs: 1_000 }))
      .optional()
      .describe('A manifest is released this long after it has come. Default: when it is approved.'),
  }),
);
