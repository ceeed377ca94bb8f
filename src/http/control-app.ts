import { Readable } from 'node:stream';
import Koa from 'koa';
import { Router } from 'koa-router';
import { RegistryError } from '../oci/error.ts';
import type { OperationTable } from '../operations/protocol/operation.ts';
import { isClientLeft } from './client-left.ts';
import { answerLines, readOperation } from './operations.ts';

/** The parts behind the control socket of a running mirror. */
export interface ControlOptions {
  /** Everything that `millpond status` shows. */
  readonly status: () => Promise<unknown>;
  /** Everything that `millpond explain` shows. @throws RegistryError */
  readonly explain: (image: string, who: string | undefined) => Promise<unknown>;
  /** Answers callers that may not ask; absent: every caller that can connect may. @returns whether the request is to be answered */
  readonly admit?: (ctx: Koa.Context) => Promise<boolean>;
  /** The operations that commands can request. */
  readonly operations: OperationTable;
  /** Receives the error of a failed operation. */
  readonly onOperationError: (operation: string, error: unknown) => void;
  /** Receives bugs. */
  readonly onError: (error: unknown) => void;
}

/**
 * The administrative side: over TCP only for callers that may administer. Questions are answered in JSON, errors as `{ "error": "one sentence"
 * }`. An operation is a POST whose body is its parameters in one line of JSON and then what is sent along; it is answered
 * by a line of JSON for each event, while it runs, and ends when the client disconnects.
 */
export function createControlApp(options: ControlOptions): Koa {
  const { admit, status, explain, operations, onOperationError, onError } = options;
  const app = new Koa();
  const router = new Router();
  app.use(async (ctx, next) => {
    try {
      if (admit && !(await admit(ctx))) return;
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
    const { image, as: who } = ctx.query;
    if (typeof image !== 'string' || image === '') return refuse(ctx, 400, 'the parameter image is missing');
    ctx.body = await explain(image, typeof who === 'string' ? who : undefined);
  });
  router.post('/operations/:name', async (ctx) => {
    const name = ctx.params['name'] ?? '';
    const operation = Object.hasOwn(operations, name) ? operations[name] : undefined;
    if (operation === undefined) return;
    const left = new AbortController();
    ctx.res.once('close', () => left.abort(new Error('the client has disconnected')));
    let read: Awaited<ReturnType<typeof readOperation>>;
    try {
      read = await readOperation(ctx.req);
    } catch {
      return refuse(ctx, 400, 'the parameters cannot be read');
    }
    const events = operation(read.parameters as never, { signal: left.signal, input: read.input });
    ctx.type = 'application/x-ndjson';
    ctx.body = Readable.from(
      answerLines(events, {
        request: ctx.req,
        onError: (error) => {
          if (!left.signal.aborted) onOperationError(name, error);
        },
      }),
    );
  });
  app.use(router.routes() as unknown as Koa.Middleware);
  app.on('error', (error: NodeJS.ErrnoException) => {
    if (!isClientLeft(error)) onError(error);
  });
  return app;
}

function refuse(ctx: { status: number; body: unknown }, status: number, error: string): void {
  ctx.status = status;
  ctx.body = { error };
}
