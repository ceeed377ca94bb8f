import { createControlApp } from '../http/control-app.ts';
import { controlSocketPath, openControlSocket } from '../http/control-socket.ts';
import { type ExplanationOptions, explainImage } from '../operations/owner/explain/explanation.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { Logger } from '../telemetry/logger.ts';
import { described } from './observers.ts';
import { type SiteStatusOptions, siteStatus } from './site-status.ts';

/**
 * What is in the options is read at each question: it may be changed while the mirror runs.
 * Lets the commands beside a running mirror ask it, over a socket in its cache directory. Where there can be none the
 * log says so and the mirror goes on without it.
 */
export async function openControl(
  options: SiteStatusOptions & {
    readonly explanation: ExplanationOptions;
    readonly operations: Operations;
    readonly log: Logger;
  },
): Promise<AsyncDisposable | undefined> {
  const { log, config } = options;
  const app = createControlApp({
    status: () => siteStatus(options),
    explain: (image, who) => explainImage(image, options.explanation, who),
    operations: { ...options.operations },
    onOperationError: (operation, error) => log.warn({ operation, error: described(error) }, 'operation failed'),
    onError: (error) => log.error({ error: described(error) }, 'unexpected error'),
  });
  const answer = app.callback();
  try {
    // Koa answers its own failures: this promise never rejects.
    return await openControlSocket(
      controlSocketPath(config.cache.dir),
      (request, response) => void answer(request, response),
    );
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.warn({ reason }, 'no control socket: status and explain cannot ask this mirror');
    return undefined;
  }
}
