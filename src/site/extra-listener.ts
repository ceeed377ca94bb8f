import type { RequestListener } from 'node:http';
import type { Config } from '../config/config.ts';
import { listen } from '../http/server.ts';
import type { Parts } from './parts.ts';
import { type LiveServerTls, openServerTls } from './server-tls.ts';
import type { Walls } from './walls.ts';

/** How long answers under way may take when such a listener is closed, in milliseconds. */
const drainMs = 1_000;

type ListenerConfig = NonNullable<Config['listeners']['metrics']>;

/** A listener beside the one of clients. */
export interface ExtraListener extends AsyncDisposable {
  readonly address: string;
}

/**
 * Opens a listener for something that is not for clients.
 * @param options `place`: its key under `listeners`
 * @throws Error in one sentence where the address or the certificates cannot be had
 */
export async function openExtraListener(
  handler: RequestListener,
  options: ListenerConfig &
    Pick<Parts, 'files' | 'log'> & {
      readonly walls: Walls;
      readonly place: keyof Config['listeners'];
      readonly takesBodies?: boolean;
      /** Its certificates, where they have been read; absent: they are read now. */
      readonly live?: LiveServerTls | undefined;
    },
): Promise<ExtraListener> {
  const { walls, files, log, place, takesBodies = false } = options;
  const tls = options.live ?? (await openServerTls(options.tls, { files, around: ['listeners', place, 'tls'] }));
  const listener = await listen(handler, {
    ...options.listen,
    tls: tls?.current,
    takesBodies,
    admission: walls.admission,
    onMalformed: (kind) => walls.malformed(kind),
  });
  tls?.onRenewed((renewed) => listener.renewTls(renewed));
  log.info({ listener: place, address: listener.address }, 'listening as well');
  return { address: listener.address, [Symbol.asyncDispose]: () => listener.close(drainMs) };
}
