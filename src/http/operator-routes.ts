import type { Middleware } from 'koa';
import { Router } from 'koa-router';

/** What `/readyz` tells. */
export interface Readiness {
  /** `draining` answers 503, so that a load balancer sends nobody any more. */
  readonly status: 'ok' | 'degraded' | 'draining';
  /** One sentence for each thing that is not as it should be. */
  readonly reasons: readonly string[];
}

export interface OperatorRoutesOptions {
  readonly readiness: () => Readiness;
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
}

/** What operators and their systems ask: is it alive, can it serve, what has it done. */
export function operatorRoutes({ readiness, metrics }: OperatorRoutesOptions): Middleware {
  const router = new Router();
  router.get('/healthz', (ctx) => {
    ctx.body = { status: 'ok' };
  });
  router.get('/readyz', (ctx) => {
    const state = readiness();
    ctx.status = state.status === 'draining' ? 503 : 200;
    ctx.body = state;
  });
  router.get('/metrics', async (ctx) => {
    ctx.type = metrics.contentType;
    ctx.body = await metrics.render();
  });
  router.get('/', (ctx) => {
    ctx.body = 'This is Millpond, a mirror of container registries. See /readyz and /metrics; clients use /v2/.\n';
  });
  return router.routes() as unknown as Middleware;
}
