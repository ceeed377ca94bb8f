import type { IncomingHttpHeaders } from 'node:http';

/** The remaining pulls of an upstream, from its last response. */
export interface RateLimit {
  readonly remaining: number;
  /** Pulls in a whole window; `undefined` if the upstream does not say. */
  readonly limit: number | undefined;
  /** Length of the window for both; `undefined` if the upstream does not say. */
  readonly windowSeconds: number | undefined;
  /** When the response came. */
  readonly seenAtMs: number;
}

/** Knowledge is valid for the window it counts for; without one, for this long. */
const defaultWindowSeconds = 3600;

/**
 * Reads the pull budget from a response: `ratelimit-limit: 100;w=21600` and `ratelimit-remaining: 76;w=21600`, as Docker
 * Hub sends them on manifests.
 * @returns `undefined` if the response has none, or an unreadable one
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

/** Whether a budget is still valid. */
export function isCurrent(limit: RateLimit, nowMs: number): boolean {
  return nowMs < endOf(limit);
}

/** When a budget is no longer valid, in milliseconds. */
export function endOf({ windowSeconds = defaultWindowSeconds, seenAtMs }: RateLimit): number {
  return seenAtMs + windowSeconds * 1000;
}

function readQuota(header: string | string[] | undefined): { count: number; windowSeconds?: number } | undefined {
  const text = Array.isArray(header) ? header[0] : header;
  const [, count, window] = /^\s*(\d{1,9})\s*(?:;\s*w=(\d{1,9})\s*)?$/.exec(text ?? '') ?? [];
  if (count === undefined) return undefined;
  return { count: Number(count), ...(window !== undefined && { windowSeconds: Number(window) }) };
}
