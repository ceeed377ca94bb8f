import type { Middleware } from 'koa';
import { RegistryError } from '../oci/error.ts';
import type { Exchange } from './exchange.ts';
import type { PeerRoutesOptions } from './peer-routes.ts';
import { isReplicaPath } from './replica-paths.ts';
import type { Sender } from './send.ts';

const identityPath = '/v2/_millpond/replica';
const nonceForm = /^[A-Za-z0-9_-]{16,64}$/;

/**
 * Lets in what another replica passes on for its clients, and says which replica this is. The replica that passes a
 * request on has asked its client who it is.
 */
export function passedOn(sender: Sender, options: PeerRoutesOptions | undefined): Middleware {
  return function admitReplica(ctx, next) {
    if (options === undefined) return next();
    const exchange = ctx.state['exchange'] as Exchange;
    if (exchange.path === identityPath && ctx.method === 'GET') {
      const nonce = new URLSearchParams(exchange.query).get('nonce') ?? '';
      if (!nonceForm.test(nonce)) throw new RegistryError('bad-name', 'the parameter nonce is missing');
      const bytes = Buffer.from(options.identify(nonce));
      const headers = [
        'Content-Type',
        'text/plain',
        'Cache-Control',
        'no-store',
        'Content-Length',
        String(bytes.length),
      ];
      return sender.send(ctx.res, { status: 200, headers, content: { kind: 'bytes', bytes } }, exchange);
    }
    const { 'millpond-pass': pass, 'millpond-caller': caller, range } = ctx.req.headers;
    if (pass === undefined || isReplicaPath(exchange.path)) return next();
    const admission = options.admit({
      method: ctx.method,
      url: ctx.req.url ?? '',
      range,
      pass: String(pass),
      caller: caller === undefined ? undefined : String(caller),
    });
    if ('refused' in admission) {
      options.report({ result: admission.refused, bytes: 0 });
      throw new RegistryError('not-allowed', 'only replicas of this mirror may pass requests on', {
        headers: { 'Millpond-Refused': admission.refused },
      });
    }
    options.report({ result: 'ok', bytes: 0 });
    exchange.isPeer = true;
    if (caller !== undefined) readCaller(exchange, String(caller));
    return next();
  };
}

/** The caller, for the replica that a request is passed on to. */
export function writeCaller({ caller, grants }: Pick<Exchange, 'caller' | 'grants'>): string | undefined {
  return caller && encodeURIComponent(JSON.stringify({ caller, grants }));
}

/** Takes what {@link writeCaller} has written: the pass has shown that a replica did. */
function readCaller(exchange: Exchange, header: string): void {
  const { caller, grants } = JSON.parse(decodeURIComponent(header)) as Pick<Exchange, 'caller' | 'grants'>;
  exchange.caller = caller;
  exchange.grants = grants;
}
