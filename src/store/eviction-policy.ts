/** After this long without a use, what a use has added to the heat of a blob is worth half as much. */
const halfLifeMs = 24 * 60 * 60 * 1000;

/**
 * The heat of a blob after uses: recency and frequency in one number. Each use counts 1 when it happens and half as much
 * after each half-life. What is kept is the base-2 logarithm of that sum as seen from 1970: as time passes it need not be
 * rewritten, since everything cools alike and the order stays.
 * @see Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems" (2009); the policy it gives is
 *   that of Lee et al., "LRFU" (2001)
 * @param heat before; `undefined` for a blob that was never used
 * @param nowMs wall clock in milliseconds
 */
export function heatAfter(heat: number | undefined, uses: number, nowMs: number): number {
  const added = nowMs / halfLifeMs + Math.log2(uses);
  if (heat === undefined) return added;
  const [more, less] = heat > added ? [heat, added] : [added, heat];
  return more + Math.log2(1 + 2 ** (less - more));
}
