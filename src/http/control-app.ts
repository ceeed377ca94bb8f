import Koa from 'koa';
import { Router } from 'koa-router';
import { RegistryError } from '../oci/error.ts';

/** What can be asked of a running mirror over its control socket. */
export interface ControlOptions {
  /** Everything that `millpond status` shows. */
  readonly status: () => Promise<unknown>;
  /** Everything that `millpond explain` shows. @throws RegistryError */
  readonly explain: (image: string) => Promise<unknown>;
  /** Told of bugs. */
  readonly onError: (error: unknown) => void;
}

/** The administrative side; never served over TCP. Answers are JSON, errors `{ "error": "one sentence" }`. */
export function createControlApp({ status, explain, onError }: ControlOptions): Koa {
  const app = new Koa();
  const router = new Router();
  app.use(async (ctx, next) => {
    try {
      await next();
      if (ctx.status === 404 && ctx.body === undefined) refuse(ctx, 404, 'this mirror does not know that question');
    } catch (error) {
      if (error instanceof RegistryError) return refuse(ctx, error.status, error.message);
      onError(error);
      refuse(ctx, 500, 'something went wrong in the mirror; its log says more');
    }
  });
  router.get('/status', async (ctx) => {
    ctx.body = await status();
  });
  router.get('/explain', async (ctx) => {
    const { image } = ctx.query;
    if (typeof image !== 'string' || image === '') return refuse(ctx, 400, 'the parameter image is missing');
    ctx.body = await explain(image);
  });
  app.use(router.routes() as unknown as Koa.Middleware);
  app.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') onError(error);
  });
  return app;
}

function refuse(ctx: { status: number; body: unknown }, status: number, error: string): void {
  ctx.status = status;
  ctx.body = { error };
}
