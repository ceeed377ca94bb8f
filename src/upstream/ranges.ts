import { type ByteRange, readContentRange } from '../oci/range.ts';
import { drain } from '../transport/body.ts';
import type { Ask, Asker } from './asking.ts';
import { unavailable } from './failures.ts';
import type { HttpAnswer } from './http-client.ts';

/** Status codes of registries that do not understand `Range`: they are asked for the whole blob. */
export const withoutRanges = [400, 501];

/** Asks for a part, and for all where one of the refusals says that there are no parts. */
export async function askForPart(
  asker: Asker,
  whole: Ask,
  options: { readonly range: string; readonly accepted?: readonly number[]; readonly refusals: readonly number[] },
): Promise<HttpAnswer> {
  const { range, accepted = [], refusals } = options;
  const answer = await asker.ask({ ...whole, headers: { range }, accepted: [206, ...accepted, ...refusals] });
  if (!refusals.includes(answer.status)) return answer;
  await drain(answer.body);
  return await asker.ask({ ...whole, accepted: [206] });
}

/**
 * A 206 to a request for all of something counts unless it says that it has only a part: its bytes are compared with
 * the digest in any case. @throws RegistryError bad-answer
 */
export function requireWhole(answer: HttpAnswer, upstream: string): void {
  const header = answer.headers['content-range'];
  if (answer.status !== 206 || header === undefined) return;
  const window = readContentRange(header);
  if (window?.range.start === 0 && (window.size === undefined || window.range.end === window.size)) return;
  answer.body.destroy();
  throw unavailable(upstream, 'answered with a part although it was asked for all');
}

/** A part that is shorter than what was asked for has at least so many bytes: each one costs a request. */
const leastPartBytes = 64 * 1024;

/**
 * Whether a 206 has a part that can be used. It may begin before what was asked for (object stores round down), and where it
 * tells the size of the whole it may end before that: without the size, its end would look like the blob's.
 */
export function isUsablePart(
  window: { readonly range: ByteRange; readonly size: number | undefined },
  wanted: { offset: number; end: number | undefined; contentLength: number | undefined },
): boolean {
  const { range, size } = window;
  const length = range.end - range.start;
  if (wanted.contentLength !== undefined && wanted.contentLength !== length) return false;
  const wantedEnd = size === undefined ? wanted.end : Math.min(wanted.end ?? size, size);
  if (range.start > wanted.offset || range.end <= wanted.offset) return false;
  if (wantedEnd === undefined || range.end === wantedEnd) return true;
  return size !== undefined && range.end < wantedEnd && range.end - wanted.offset >= leastPartBytes;
}
