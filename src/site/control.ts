import type { RequestListener } from 'node:http';
import { type ControlOptions, createControlApp } from '../http/control-app.ts';
import { controlSocketPath, openControlSocket } from '../http/control-socket.ts';
import type { ExplanationOptions } from '../operations/owner/explain/explanation.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { Logger } from '../telemetry/logger.ts';
import { described } from './described.ts';
import { type SiteStatusOptions, siteStatus } from './site-status.ts';

/**
 * Lets the commands beside a running mirror ask it, over a socket in its cache directory. If the socket cannot be opened, the
 * log says so and the mirror runs without it.
 * @param options read for each question: they may change while the mirror runs
 */
export async function openControl(
  options: SiteStatusOptions & {
    readonly explanation: ExplanationOptions;
    readonly operations: Operations;
    readonly log: Logger;
    /** Serves it over TCP, too; absent: it does not. */
    readonly openTcp?: ((handler: RequestListener) => Promise<AsyncDisposable>) | undefined;
    /** Answers callers over TCP that may not ask. */
    readonly admit: NonNullable<ControlOptions['admit']>;
  },
): Promise<AsyncDisposable> {
  const { log, config } = options;
  const parts: ControlOptions = {
    status: () => siteStatus(options),
    async explain(image, who) {
      const { explainImage } = await import('../operations/owner/explain/explanation.ts');
      return explainImage(image, options.explanation, who);
    },
    operations: { ...options.operations },
    onOperationError: (operation, error) => log.warn({ operation, error: described(error) }, 'operation failed'),
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
  };
  await using owned = new AsyncDisposableStack();
  if (options.openTcp) {
    const guarded = createControlApp({ ...parts, admit: options.admit }).callback();
    owned.use(await options.openTcp((request, response) => void guarded(request, response)));
  }
  const answer = createControlApp(parts).callback();
  try {
    // Koa answers its own failures: this promise never rejects.
    owned.use(
      await openControlSocket(
        controlSocketPath(config.cache.dir),
        (request, response) => void answer(request, response),
      ),
    );
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.warn({ reason }, 'no control socket: status and explain cannot ask this mirror');
  }
  return owned.move();
}
