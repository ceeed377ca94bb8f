/**
 * The eviction policy: the only place to change it; CONTRIBUTING.md says how. The store keeps these numbers in its catalog,
 * and `bench/eviction-simulation.ts` compares them with other policies on replayed traces.
 *
 * Each blob has a *heat*, recency and frequency in one number, which grows with each use of an image that needs the blob.
 * The coldest blob is evicted first. Two rules help where heat alone does badly: the blobs used last are spared up to a
 * share of the cache (a new image is cold between two pulls of its roll-out), and the heat of an evicted blob is remembered
 * for a while (otherwise the blob would start from zero each time, and never stay).
 */

/**
 * After this time, a use counts half as much as a use now. With `recentShare` as below, 1 to 30 days differ by less than 1 %
 * of the bytes.
 */
export const halfLifeMs = 3 * 24 * 60 * 60 * 1000;

/** The blobs used last, up to this share of the stored bytes, are spared as long as there is anything else. */
export const recentShare = 0.1;

/**
 * With the manifest of an image, its layers are evicted unless they are warmer than the manifest by more than this, in units
 * of heat: such a layer was used more than twice as often, by other images too, of which one may soon be pulled again. It is
 * evicted before any image all the same. Layers are read some time after their manifest: this must be more than the heat
 * that a blob gains in the time of a pull.
 */
export const sharedHeat = 1.1;

/** How many evicted blobs are remembered with their heat. */
export const rememberedEvictions = 100_000;

/**
 * The heat of a blob after uses. Each use counts 1 when it happens and half as much after each half-life. What is kept is
 * the base-2 logarithm of that sum as seen from 1970: as time passes it need not be rewritten, since everything cools
 * alike and the order stays.
 * @see Cormode et al., "Forward Decay: A Practical Time Decay Model for Streaming Systems" (2009); the policy it gives is
 *   that of Lee et al., "LRFU" (2001)
 * @param heat before; `undefined` for a blob that was never used
 * @param nowMs wall clock in milliseconds
 */
export function heatAfter(heat: number | undefined, uses: number, nowMs: number, halfLife = halfLifeMs): number {
  const added = nowMs / halfLife + Math.log2(uses);
  if (heat === undefined) return added;
  const [more, less] = heat > added ? [heat, added] : [added, heat];
  return more + Math.log2(1 + 2 ** (less - more));
}

/** The maximum heat of a blob that is used now. A greater heat comes from a clock that was ahead. */
export function greatestHeat(nowMs: number): number {
  return heatAfter(undefined, 2 ** 16, nowMs);
}

/**
 * The heat of a blob that a clock which was ahead saw used, as if it had been used now.
 * @param aheadMs how far in the future its last use is; 0 or less: only its heat is
 */
export function heatSetBack(heat: number, { aheadMs, nowMs }: { aheadMs: number; nowMs: number }): number {
  return Math.min(heat - Math.max(aheadMs, 0) / halfLifeMs, greatestHeat(nowMs));
}

/**
 * The heat of a blob whose last use has lasted until a time. How often the blob was used is rounded, so that blobs used
 * as often are evicted in the order in which those uses ended, to less than a millisecond.
 * @param usedAtMs when its last use was noted
 */
export function heatLasted(heat: number, { usedAtMs, endMs }: { usedAtMs: number; endMs: number }): number {
  return Math.round((heat - usedAtMs / halfLifeMs) * 1000) / 1000 + endMs / halfLifeMs;
}

/** An earlier time shows that the clock is wrong, as after a start without a battery: it is not used. */
export const earliestMs = Date.UTC(2023, 0);

/** Eviction starts above the high mark and ends at the low mark, in bytes. */
export interface Marks {
  readonly high: number;
  readonly low: number;
}

/**
 * The bytes that may be on disk of blobs whose image has no room, as shares of the budget and where less than that is free: of
 * images that wait for it, whose sizes their manifests tell, and of anything else. Nothing is evicted for either.
 */
export const guestShares = { vouched: 1, unvouched: 0.05 } as const;
/** Above this share of what images that wait may take, some are chosen that pass through, so that the others need not. */
export const easyGuestShare = 0.75;

/** A budget within which so many bytes are, by {@link marksOf}. */
export function budgetFor(bytes: number): number {
  return bytes + Math.ceil(Math.min(bytes / 199, 256 * 1024 * 1024));
}

/**
 * The marks of a budget. The high one leaves room for what is stored while blobs are being removed; the low one is so
 * near that little is given up before its place is needed.
 */
export function marksOf(budgetBytes: number): Marks {
  const high = Math.floor(budgetBytes - Math.min(budgetBytes / 200, 256 * 1024 * 1024));
  return { high, low: Math.floor(high - Math.min(budgetBytes / 100, 1024 * 1024 * 1024)) };
}

/**
 * By how much less is free than should be, in bytes; at or below 0 where enough is, or it cannot be told.
 * @param found the file system's size and what is free of it, in bytes
 */
export function lackOfFree(
  found: { readonly totalBytes: number; readonly freeBytes: number } | undefined,
  minFreeBytes: number,
  mark: keyof Marks,
): number {
  if (found === undefined) return 0;
  // Of a file system that is smaller than what should be free, half is the cache's all the same.
  const wanted = Math.min(minFreeBytes, found.totalBytes / 2);
  const margin = mark === 'low' ? Math.min(wanted / 20, 1024 * 1024 * 1024) : 0;
  return wanted + margin - found.freeBytes;
}
