import type { Context, Middleware } from 'koa';
import { Router } from 'koa-router';
import type { AccessControl } from '../access/access-control.ts';
import { admitOperator } from './operator-access.ts';

/** Codes of the conditions of a replica; stable from version to version. */
export type ConditionCode =
  | 'cache-full'
  | 'catalog-fault'
  | 'catalog-lost'
  | 'certificate-expired'
  | 'certificate-expiring'
  | 'credentials-missing'
  | 'disk-fault'
  | 'file-refused'
  | 'overloaded'
  | 'redis-lost'
  | 'shutting-down'
  | 'upstream-away'
  | 'upstream-failing'
  | 'repository-away';

/** Something that is not as it should be. */
export interface Condition {
  readonly code: ConditionCode;
  /** One sentence for people. */
  readonly text: string;
}

/** The content of `/readyz`. */
export interface Readiness {
  /** `draining` answers 503, so that a load balancer sends no more requests. */
  readonly status: 'ok' | 'degraded' | 'draining';
  readonly conditions: readonly Condition[];
}

export interface OperatorRoutesOptions {
  /** The rights of callers; absent: each caller may do anything. */
  readonly access?: AccessControl | undefined;
  /** Whether `/metrics` has a listener of its own. */
  readonly isMetricsElsewhere?: boolean;
  readonly readiness: () => Readiness;
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
}

/** The routes for operators and their systems: liveness, readiness, metrics. */
export function operatorRoutes({
  readiness,
  metrics,
  access,
  isMetricsElsewhere = false,
}: OperatorRoutesOptions): Middleware {
  const router = new Router();
  const isAdmitted = async (ctx: Context, need: 'identify' | 'administer'): Promise<boolean> =>
    access === undefined || (await admitOperator(ctx, access, need));
  router.get('/healthz', (ctx) => {
    ctx.body = { status: 'ok' };
  });
  router.get('/readyz', async (ctx) => {
    const { status, conditions } = readiness();
    // A probe shows no credentials: it learns whether, and not why.
    const isAnonymous = access?.settings !== undefined && ctx.req.headers.authorization === undefined;
    if (!isAnonymous && !(await isAdmitted(ctx, 'identify'))) return;
    ctx.status = status === 'draining' ? 503 : 200;
    ctx.body = isAnonymous ? { status } : { status, reasons: conditions.map(({ text }) => text) };
  });
  router.get('/metrics', async (ctx) => {
    if (isMetricsElsewhere) return;
    if (!(await isAdmitted(ctx, 'administer'))) return;
    ctx.type = metrics.contentType;
    ctx.body = await metrics.render();
  });
  router.get('/', async (ctx) => {
    if (!(await isAdmitted(ctx, 'identify'))) return;
    ctx.body = 'This is Millpond, a mirror of container registries. See /readyz and /metrics; clients use /v2/.\n';
  });
  return router.routes() as unknown as Middleware;
}
