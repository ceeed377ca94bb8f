import type { Context, Middleware } from 'koa';
import type { AccessControl, TokenAnswer } from '../access/access-control.ts';
import { parseScopes } from '../access/grants.ts';
import { RegistryError } from '../oci/error.ts';
import { presentedBy } from './callers.ts';
import type { Exchange } from './exchange.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import { readBody } from './request-body.ts';
import type { Sender } from './send.ts';

/** Largest form that is read, in bytes: some passwords are tokens of several KiB. */
const maxFormBytes = 64 * 1024;
/** A client that sends nothing of its form for this long is disconnected, in milliseconds. */
const formIdleMs = 30_000;

/** The path of the token service. */
export const tokenPath = '/token';

/**
 * The token service (distribution, "Token Authentication Specification" and "OAuth2"): GET with Basic credentials or none,
 * and POST of a form. What the policies deny is no error here: the token says who asks, and each request is looked at.
 */
export function tokenRoute({ access, sender }: { access: AccessControl; sender: Sender }): Middleware {
  return async function serveToken(ctx, next) {
    const exchange = ctx.state['exchange'] as Exchange;
    if (exchange.path !== tokenPath || !access.settings) {
      await next();
      return;
    }
    const answer = await answerOf(access, ctx, exchange);
    const headers = ['Cache-Control', 'no-store', 'Pragma', 'no-cache'];
    await sender.send(ctx.res, jsonReply(answer, { ...conditionsOf(ctx, exchange), headers }), exchange);
  };
}

async function answerOf(access: AccessControl, ctx: Context, exchange: Exchange): Promise<TokenAnswer> {
  try {
    switch (ctx.method) {
      case 'GET':
      case 'HEAD': {
        const parameters = new URLSearchParams(exchange.query);
        const isOffline = parameters.get('offline_token') === 'true';
        return await access.tokenFor(presentedBy(ctx, access), {
          grants: parseScopes(parameters.getAll('scope')),
          isOffline,
        });
      }
      case 'POST':
        return await answerForm(access, ctx, exchange);
      default:
        throw new RegistryError('read-only', 'tokens are given for GET and POST', {
          headers: { Allow: 'GET, HEAD, POST' },
        });
    }
  } catch (error) {
    if (!(error instanceof RegistryError) || error.reason !== 'unauthenticated') throw error;
    throw new RegistryError('unauthenticated', error.message, {
      headers: { 'WWW-Authenticate': 'Basic realm="Millpond"', 'Cache-Control': 'no-store' },
    });
  }
}

async function answerForm(access: AccessControl, ctx: Context, exchange: Exchange): Promise<TokenAnswer> {
  const bytes = await readBody({ ctx, exchange, clientIdleMs: formIdleMs }, { maxBytes: maxFormBytes });
  const form = new URLSearchParams(bytes.toString('utf8'));
  const presented = presentedBy(ctx, access);
  const options = { grants: parseScopes(form.getAll('scope')), isOffline: form.get('access_type') === 'offline' };
  switch (form.get('grant_type') ?? '') {
    case 'password': {
      const pair = `${form.get('username') ?? ''}:${form.get('password') ?? ''}`;
      const authorization = `Basic ${Buffer.from(pair).toString('base64')}`;
      return await access.tokenFor({ ...presented, authorization }, options);
    }
    case 'refresh_token':
      return await access.tokenFor({ ...presented, refreshToken: form.get('refresh_token') ?? '' }, options);
    default:
      throw new RegistryError('bad-reference', 'accepted grant types: password, refresh_token', {
        code: 'UNSUPPORTED',
        status: 400,
      });
  }
}
