import type { IncomingHttpHeaders } from 'node:http';

/** How many pulls an upstream has left for us, as its last answer told. */
export interface RateLimit {
  readonly remaining: number;
  /** Pulls in a whole window; `undefined` where the upstream does not tell. */
  readonly limit: number | undefined;
  /** Length of the window the two count for; `undefined` where the upstream does not tell. */
  readonly windowSeconds: number | undefined;
  /** When the answer came. */
  readonly seenAtMs: number;
}

/** What is known holds for the window it counts for; without one, for this long. */
const defaultWindowSeconds = 3600;

/**
 * Reads the pull budget from an answer: `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`, as Docker
 * Hub sends them on manifests.
 * @returns `undefined` where the answer tells none, or none that can be read
 */
export function readRateLimit(headers: IncomingHttpHeaders, nowMs: number): RateLimit | undefined {
  const remaining = readQuota(headers['ratelimit-remaining']);
  if (remaining === undefined) return undefined;
  const limit = readQuota(headers['ratelimit-limit']);
  return {
    remaining: remaining.count,
    limit: limit?.count,
    windowSeconds: remaining.windowSeconds ?? limit?.windowSeconds,
    seenAtMs: nowMs,
  };
}

/** Whether what an answer told of the budget still says something. */
export function isCurrent({ windowSeconds = defaultWindowSeconds, seenAtMs }: RateLimit, nowMs: number): boolean {
  return nowMs - seenAtMs < windowSeconds * 1000;
}

function readQuota(header: string | string[] | undefined): { count: number; windowSeconds?: number } | undefined {
  const text = Array.isArray(header) ? header[0] : header;
  const [, count, window] = /^\s*(\d{1,9})\s*(?:;\s*w=(\d{1,9})\s*)?$/.exec(text ?? '') ?? [];
  if (count === undefined) return undefined;
  return { count: Number(count), ...(window !== undefined && { windowSeconds: Number(window) }) };
}
