import type { IncomingHttpHeaders } from 'node:http';
import { RegistryError } from '../oci/error.ts';
import type { ErrorCode } from '../oci/reason.ts';
import { readBounded, type TransferBody, transferBody } from '../transport/body.ts';
import type { OwnerLink } from './owner-link.ts';

/** Longest silence in a body, in milliseconds. */
const idleMs = 10_000;
/** Largest error that is read, in bytes. */
const maxErrorBytes = 16 * 1024;

/** An answer of success of the owner. */
export interface OwnerAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** To be read to its end or destroyed. */
  readonly body: TransferBody;
  /** Reads the body into memory. @returns `undefined` where it has more bytes than that */
  readonly read: (maxBytes: number) => Promise<Buffer | undefined>;
}

/**
 * Asks the owner of the hosted repositories about what is there.
 * @throws RegistryError in the owner's own words for 403 and 404, UNAVAILABLE for what is no answer; the signal's reason
 */
export async function askOwner(
  link: OwnerLink,
  [method, path]: readonly [method: 'GET' | 'HEAD', path: string],
  { range, signal }: { readonly range?: string | undefined; readonly signal: AbortSignal },
): Promise<OwnerAnswer> {
  const answer = await link.send({ method, path, headers: range === undefined ? {} : { range }, signal });
  const { status, headers } = answer;
  const length = headers['content-length'];
  const body = transferBody(answer, {
    idleMs,
    expectedBytes: method === 'HEAD' || length === undefined ? undefined : Number(length),
    translate: (cause) =>
      signal.aborted
        ? signal.reason
        : new RegistryError('cut', 'the owner of the hosted repositories has cut the transfer', { cause }),
  });
  if (status === 200 || status === 206) {
    return { status, headers, body, read: (maxBytes) => readBounded(body, maxBytes) };
  }
  const isRead = method === 'GET' && (status === 403 || status === 404);
  const text = isRead ? await readBounded(body, maxErrorBytes) : undefined;
  body.destroy();
  throw refusal(status, text);
}

/** The owner's own words: it is a part of this mirror. */
function refusal(status: number, text: Buffer | undefined): RegistryError {
  const said = saidIn(text);
  const code = said === undefined ? {} : { code: said.code };
  if (status === 404) return new RegistryError('not-found', said?.message ?? 'there is no such content here', code);
  if (status === 403) return new RegistryError('denied', said?.message ?? 'not allowed', code);
  if (status === 416) return new RegistryError('range-refused', 'the range lies outside the blob');
  return new RegistryError('bad-answer', `the owner of the hosted repositories answered ${status}`);
}

function saidIn(text: Buffer | undefined): { readonly code: ErrorCode; readonly message: string } | undefined {
  try {
    const { errors } = JSON.parse(String(text)) as { errors: [{ code: ErrorCode; message: string }] };
    return errors[0];
  } catch {
    return undefined;
  }
}
