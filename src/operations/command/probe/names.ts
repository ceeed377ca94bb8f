import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type Finding, failed, ok } from './steps.ts';

/**
 * Resolves the name of an upstream's URL, as a connection would.
 * @param options `proxy`: the one that the URL is reached through, which resolves names itself
 */
export async function resolveNames(
  url: URL,
  {
    proxy,
    signal,
    timeoutMs,
  }: {
    readonly proxy: string | undefined;
    readonly signal: AbortSignal;
    readonly timeoutMs: number;
  },
): Promise<Finding> {
  const { hostname } = url;
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  if (proxy !== undefined) return ok(`${host} is resolved by the proxy ${proxy}`);
  if (isIP(host) !== 0) return ok(`${host} is an address`);
  const given = Promise.withResolvers<never>();
  const stop = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  const abort = (): void => given.reject(stop.reason as Error);
  stop.addEventListener('abort', abort, { once: true });
  try {
    const addresses = await Promise.race([lookup(host, { all: true }), given.promise]);
    return ok(`${host} is ${addresses.map(({ address }) => address).join(', ')}`);
  } catch (error) {
    signal.throwIfAborted();
    const { code = 'no answer in time' } = error as NodeJS.ErrnoException;
    const why = typeof code === 'string' ? code : 'no answer in time';
    return failed(
      `${host} cannot be resolved (${why})`,
      'check the name and the DNS of this machine; where only a proxy leads out, set HTTPS_PROXY',
    );
  } finally {
    stop.removeEventListener('abort', abort);
  }
}
