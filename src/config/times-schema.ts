import { z } from 'zod';
import type { Quantity } from './units.ts';
import { duration } from './value-kinds.ts';
import { value } from './value-schema.ts';

/** Times of a tag, each with its default for all upstreams. */
export const tagTimes = {
  tagTtl: value(duration())
    .prefault('60s')
    .describe('How long a tag is served without revalidation; 0: revalidate at each request.'),
  staleWhileRevalidate: value(duration())
    .prefault('0s')
    .describe('How long after `tagTtl` a tag is still served at once while it is revalidated in the background.'),
  staleIfError: value(duration())
    .prefault('30d')
    .describe('How long after `tagTtl` a tag is still served when the upstream cannot answer.'),
};

/** How long answers of an upstream hold. */
export const freshness = {
  ...tagTimes,
  negativeTtl: value(duration()).prefault('10s').describe('How long a 404 is remembered.'),
};

const limit = duration({ minMs: 1, timer: true });

/** Time limits of requests to upstreams. */
export const upstreamTimeouts = {
  connect: value(limit)
    .prefault('3s')
    .describe('For each of: name resolution, connecting to an upstream, the TLS handshake.'),
  headers: value(limit).prefault('8s').describe("For the headers of an upstream's response, including redirects."),
  idle: value(limit)
    .prefault('30s')
    .describe('For the next bytes of a body from an upstream, while a reader wants them.'),
  answer: value(limit)
    .prefault('10s')
    .describe('A client receives headers or an error within this time, whatever the upstreams do.'),
};

type Defaults = Readonly<Record<string, z.ZodPrefault>>;
type Overrides<Shape extends Defaults> = { [Key in keyof Shape]: z.ZodOptional<ReturnType<Shape[Key]['unwrap']>> };

/**
 * The same keys at a narrower place, where each may be absent and then has the value of the wider one.
 * @param options.inherits the wider section, such as `cache` or `upstreams.*`
 * @param options.describe makes the description of a key
 */
export function overridesOf<Shape extends Defaults>(
  shape: Shape,
  options: { readonly inherits: string; readonly describe: (key: string) => string },
): Overrides<Shape> {
  const { inherits, describe } = options;
  const entries = Object.entries(shape).map(([key, wide]) => [
    key,
    z
      .optional(wide.unwrap())
      .describe(describe(key))
      .meta({ 'x-inherits': `${inherits}.${key}` }),
  ]);
  return Object.fromEntries(entries) as Overrides<Shape>;
}

/** The times of a shape's keys, each from `own`, or from the wider section where it is absent there. */
export function inherit<Key extends string>(
  shape: Readonly<Record<Key, unknown>>,
  from: {
    readonly own: { readonly [K in NoInfer<Key>]?: Quantity<'Ms'> | undefined };
    readonly wide: Readonly<Record<NoInfer<Key>, Quantity<'Ms'>>>;
  },
): Record<Key, Quantity<'Ms'>> {
  const keys = Object.keys(shape) as Key[];
  return Object.fromEntries(keys.map((key) => [key, from.own[key] ?? from.wide[key]])) as Record<Key, Quantity<'Ms'>>;
}
