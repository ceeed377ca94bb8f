import { RegistryError } from '../oci/error.ts';
import { parseJson } from '../oci/json.ts';
import { readBounded, transferBody } from '../transport/body.ts';
import type { Exchange } from './exchange.ts';
import type { HostedOwner } from './hosted-owner.ts';
import { writeCaller } from './passed-on.ts';

/** Names on a page of the owner. */
const namesPerPage = 1_000;
/** Largest page that is read, in bytes: names have at most 255 characters. */
const maxPageBytes = 1024 * 1024;
const limits = { maxValues: 2 * namesPerPage, maxDepth: 5 };

/**
 * The hosted repositories that the caller may know of, in byte order, as the replica that keeps them lists them.
 * @param after only those behind this name
 * @throws RegistryError UNAVAILABLE (503) where the owner cannot be asked; the signal's reason
 */
export async function* ownerNames(owner: HostedOwner, exchange: Exchange, after: string): AsyncGenerator<string> {
  for (let last = after; ; ) {
    const names = await pageOf(owner, exchange, last);
    yield* names.filter((name) => owner.rules.isHosted(name));
    const end = names.at(-1);
    if (end === undefined || names.length < namesPerPage) return;
    last = end;
  }
}

async function pageOf(owner: HostedOwner, exchange: Exchange, last: string): Promise<string[]> {
  const { signal } = exchange;
  const answer = await owner.send({
    method: 'GET',
    path: `/v2/_catalog?n=${namesPerPage}&last=${encodeURIComponent(last)}`,
    headers: {},
    body: undefined,
    isPush: false,
    caller: writeCaller(exchange),
    signal,
  });
  const body = transferBody(answer, {
    idleMs: 10_000,
    expectedBytes: undefined,
    translate: (cause) => (signal.aborted ? signal.reason : unreadable(cause)),
  });
  const bytes = await readBounded(body, maxPageBytes);
  if (answer.status !== 200 || bytes === undefined) throw unreadable();
  const said = parseJson(bytes, limits) as { readonly repositories?: unknown } | null;
  const { repositories } = said ?? {};
  if (!Array.isArray(repositories)) throw unreadable();
  // One that does not go forward would be asked for ever.
  return (repositories as readonly unknown[]).filter((name): name is string => typeof name === 'string' && name > last);
}

function unreadable(cause?: unknown): RegistryError {
  const sentence = 'the replica that keeps the hosted repositories has not listed them';
  return new RegistryError('owner-away', sentence, { cause, headers: { 'Retry-After': '5' } });
}
