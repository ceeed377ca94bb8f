import type { Context } from 'koa';
import type { AccessControl } from '../access/access-control.ts';
import { RegistryError } from '../oci/error.ts';
import { presentedBy } from './callers.ts';

/**
 * Lets in who may ask for a path outside of the registry API, and answers the others. Programs that read these paths, such
 * as browsers and Prometheus, know Basic.
 * @param need `identify`: any caller that may be here at all; `administer`: one that may administer the mirror
 * @returns whether the request is to be answered
 */
export async function admitOperator(
  ctx: Pick<Context, 'req' | 'status' | 'body' | 'set'>,
  access: AccessControl,
  need: 'identify' | 'administer',
): Promise<boolean> {
  const { settings } = access;
  if (settings === undefined) return true;
  try {
    const { caller } = await access.identify(presentedBy(ctx, access));
    const isAnonymous = caller.kind === 'anonymous';
    // Of a guest nothing is known.
    if (need === 'identify' && caller.kind !== 'guest' && (!isAnonymous || settings.anonymous)) return true;
    const { isAllowed, rule } = access.decide(caller, 'administer', undefined);
    if (need === 'administer' && isAllowed) return true;
    if (!isAnonymous) {
      access.refused(caller, 'administer', { repository: undefined, rule });
      refuse(ctx, 403, 'no policy of this mirror allows this to you');
      return false;
    }
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    if (error.reason !== 'unauthenticated') {
      for (const [name, value] of Object.entries(error.headers)) ctx.set(name, value);
      refuse(ctx, error.status, error.message);
      return false;
    }
  }
  ctx.set('WWW-Authenticate', 'Basic realm="Millpond", charset="UTF-8"');
  refuse(ctx, 401, 'authentication is required');
  return false;
}

function refuse(ctx: Pick<Context, 'status' | 'body' | 'set'>, status: number, sentence: string): void {
  ctx.status = status;
  ctx.set('Cache-Control', 'no-store');
  ctx.body = `${sentence}\n`;
}
