import type { IncomingHttpHeaders } from 'node:http';

/** The age of an answer of a mirror that is the upstream. */
export interface ParentAge {
  /** How long ago its upstream confirmed the answer, in seconds. */
  readonly seconds: number;
  /** Whether it could not have the answer confirmed now. */
  readonly isStale: boolean;
}

/** The age of an answer from a mirror's cache; `undefined` where the answer is from none. */
export function ageOf(headers: IncomingHttpHeaders): ParentAge | undefined {
  const parameters = ownItem(headers['cache-status']);
  if (parameters === undefined) return undefined;
  const isStale = parameters.includes('detail=stale') || parameters.includes('detail=stale-while-revalidate');
  const seconds = /^\d{1,9}$/.test(headers.age ?? '') ? Number(headers.age) : 0;
  return { seconds, isStale };
}

/** Whether a "not found" is one that a mirror remembers from a while ago. */
export function isRemembered(headers: IncomingHttpHeaders): boolean {
  return ownItem(headers['cache-status'])?.includes('detail=negative') === true;
}

/**
 * Why a mirror that is asked as an upstream could not pass the question on (RFC 9209, 2.3), such as
 * `destination_unavailable`; `undefined` for an answer of the registry itself, and of what is no mirror.
 */
export function parentError(headers: IncomingHttpHeaders): string | undefined {
  const parameter = ownItem(headers['proxy-status'])?.find((each) => each.startsWith('error='));
  return parameter?.slice('error='.length, 60);
}

/** Whether a mirror has no place for one more request now: that says nothing about the registry, nor about others. */
export function isFullParent(headers: IncomingHttpHeaders): boolean {
  return parentError(headers) === 'connection_limit_reached';
}

/** The parameters of the last item of a structured list that a Millpond has added. */
function ownItem(header: string | string[] | undefined): readonly string[] | undefined {
  const text = (Array.isArray(header) ? header.join(',') : (header ?? '')).slice(0, 2_000);
  const items = text.split(',').map((item) => item.split(';').map((part) => part.trim()));
  return items.findLast(([name]) => name === 'millpond')?.slice(1);
}
