import { Socket } from 'node:net';
import { noticesOf } from '../config/notices.ts';
import type { Generations } from '../front/generations.ts';
import type { Loads } from '../front/loads.ts';
import type { FrontLimits, FrontTls } from '../front/messages.ts';
import { moveAway } from '../front/moved-connection.ts';
import { RelayedSocket } from '../front/relayed-socket.ts';
import { type SystemCalls, systemCalls } from '../front/system-calls.ts';
import type { FrontListener, Guest, ServerTls } from '../http/server.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Cache } from './cache.ts';
import { described } from './described.ts';
import { wantedThreads } from './front-threads.ts';
import { Fronts, type MovedHere } from './fronts.ts';
import { limitsInForce, processMeans } from './limits.ts';
import type { Parts } from './parts.ts';
import type { OwnShortWay } from './short-way.ts';

/** Memory for kept answers, of all front threads together, in bytes. */
const keptBytes = 32 * 1024 * 1024;

/** Threads that accept connections and answer what is kept. */
export interface OpenFronts extends FrontListener {
  /** The configuration has changed. */
  look(): void;
}

/**
 * How many front threads there are to be; `undefined`: the main thread does it all, and the log says why where more are
 * configured.
 */
export function frontThreads(
  { config }: Pick<Cache, 'config'>,
  { log, calls = systemCalls() }: { readonly log: Logger; readonly calls?: SystemCalls | undefined },
): { threads: number; calls: SystemCalls } | undefined {
  const threads = wantedThreads(config);
  if (threads === 1) return undefined;
  const notices = noticesOf(config);
  if (calls === undefined && config.serve.threads !== 'auto') {
    notices.push(
      `serve.threads: ${threads} has no effect here, because front threads need node:ffi and 64-bit Linux with glibc: the main thread answers alone`,
    );
  }
  for (const notice of notices) log.warn(notice);
  return config.tls?.clientCaFile === undefined && calls ? { threads, calls } : undefined;
}

/** @throws Error in one sentence when the address cannot be had */
export async function openFronts(
  cache: Cache,
  parts: Pick<Parts, 'log' | 'metrics'> & {
    readonly generations: Generations;
    readonly loads: Loads;
    readonly short: OwnShortWay;
    readonly threads: number;
    readonly calls: SystemCalls;
    readonly adopt: (guest: Guest) => void;
    readonly tls: ServerTls | undefined;
  },
): Promise<OpenFronts> {
  const { generations, loads, short, threads, calls, adopt, log, metrics } = parts;
  const means = processMeans();
  const limits = (): FrontLimits => limitsOf(cache, { threads, means });
  let failures = 0;
  const fronts = await Fronts.start({
    threads,
    settings: {
      ...cache.config.listen,
      generations: generations.buffer,
      loads: loads.buffer,
      keptBytes: Math.floor(keptBytes / threads),
      tls: parts.tls && frontTlsOf(parts.tls),
      usesSendfile: cache.config.serve.sendfile !== 'off',
      limits: limits(),
    },
    onReport: (report) => short.reported(report),
    onMoved: (moved) => adopt(guestOf(moved, calls)),
    onFailure(error) {
      failures += 1;
      log.error({ error: described(error) }, 'a front thread has failed, another one takes its place');
    },
    onReplaced: () => log.info('a front thread has taken the place of the one that failed'),
  });
  short.share = (key, answer) => fronts.keep(key, answer);
  metrics.watch('front_threads', 'Threads that answer what is kept, beside the main one.', () => fronts.count);
  metrics.watchCount('front_failures_total', 'Front threads that have failed and were replaced.', () => failures);
  return {
    address: fronts.address,
    close: (drainMs) => fronts.close(drainMs),
    renewTls: (tls) => fronts.renewTls(frontTlsOf(tls)),
    look: () => fronts.replaceLimits(limits()),
  };
}

function frontTlsOf({ cert, key, minVersion }: ServerTls): FrontTls {
  return { cert, key, ...(minVersion && { minVersion }) };
}

function guestOf(from: MovedHere, calls: SystemCalls): Guest {
  const { fd, bytes, key, giveBack } = from;
  if (from.relayed) {
    const relayed = new RelayedSocket(from);
    return {
      socket: relayed,
      bytes: Buffer.from(bytes),
      giveBack: key === undefined ? undefined : () => relayed.giveBack(),
    };
  }
  const socket = new Socket({ fd, allowHalfOpen: true });
  const goBack = (): void => {
    const moved = moveAway(socket, { bytes: Buffer.alloc(0), key: undefined, calls });
    if (moved) giveBack(moved.fd);
  };
  return { socket, bytes: Buffer.from(bytes), giveBack: key === undefined ? undefined : goBack };
}

/**
 * The limits of the process hold for all threads together. Those of one client are shared out among the fronts, which do
 * not know each other's clients; what is beyond goes to the main thread, which has room for as much of that client again.
 */
function limitsOf(
  { config }: Cache,
  { threads, means }: { threads: number; means: ReturnType<typeof processMeans> },
): FrontLimits {
  const limits = limitsInForce(config.limits, means);
  const share = (whole: number): number => Math.max(1, Math.ceil(whole / threads));
  return {
    clientIdleMs: config.timeouts.clientIdleMs,
    connections: limits.connections,
    connectionsPerClient: share(limits.connectionsPerClient),
    requests: limits.requests,
    requestsPerClient: share(limits.requestsPerClient),
    memoryBytes: limits.memoryBytes,
    memoryPerClientBytes: share(limits.memoryPerClientBytes),
  };
}
