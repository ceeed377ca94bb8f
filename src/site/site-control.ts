import { admitOperator } from '../http/operator-access.ts';
import type { ExplanationOptions } from '../operations/owner/explain/explanation.ts';
import { addressesOf } from '../operations/owner/explain/own-address.ts';
import type { Operations } from '../operations/protocol/operations.ts';
import type { LiveAccess } from './access.ts';
import type { Cache } from './cache.ts';
import { openControl } from './control.ts';
import type { EventLoop } from './event-loop.ts';
import { openExtraListener } from './extra-listener.ts';
import type { Hosted } from './hosted.ts';
import type { Parts } from './parts.ts';
import type { Prefetcher } from './prefetcher.ts';
import type { LiveReplicas } from './replicas.ts';
import { signaturesOf } from './signature-policies.ts';
import { credentialsOf } from './upstream-options.ts';
import { readVersion } from './version.ts';
import type { Walls } from './walls.ts';

/** Lets commands ask this mirror. */
export async function openSiteControl(
  cache: Cache,
  parts: Parts & {
    readonly walls: Walls;
    readonly others: LiveReplicas | undefined;
    readonly access: LiveAccess;
    readonly prefetcher: Prefetcher;
    readonly hosted: Pick<Hosted, 'status'> | undefined;
    readonly operations: Operations;
    readonly address: string;
    readonly eventLoop: EventLoop | undefined;
  },
): Promise<AsyncDisposable> {
  const { log, metrics, health, files, now, walls, others, access, prefetcher, address, eventLoop } = parts;
  const { mirror, catalog, upstreams } = cache;
  const { administration } = cache.config.listeners;
  return await openControl({
    get config() {
      return cache.config;
    },
    get upstreams() {
      return upstreams.all;
    },
    get explanation() {
      return explanationOf(cache, { address, now, decide: access.decide });
    },
    version: await readVersion(),
    address,
    startedAtMs: now(),
    now,
    readiness: () => health.readiness(),
    load: () => walls.status(),
    metrics,
    fills: mirror.fills,
    catalog,
    hosted: async () => (await parts.hosted?.status()) ?? null,
    certificates: () => files.certificates(),
    eventLoop: () => eventLoop?.reading() ?? null,
    replicas: () => others?.status() ?? null,
    prefetches: () => prefetcher.status(),
    operations: parts.operations,
    admit: (ctx) => admitOperator(ctx, access.control, 'administer'),
    openTcp:
      administration &&
      ((handler) =>
        openExtraListener(handler, {
          ...administration,
          files,
          log,
          walls,
          place: 'administration',
          takesBodies: true,
        })),
    log,
  });
}

/** The data for `explain`, by the configuration in force. */
function explanationOf(
  { config, upstreams: { table }, store, catalog }: Cache,
  { address, now, decide }: Pick<ExplanationOptions, 'now' | 'decide'> & { readonly address: string },
): ExplanationOptions {
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  return {
    upstreams: table,
    store,
    catalog,
    offline: config.offline,
    now,
    credential: credentialsOf(config),
    signatures: signaturesOf(config),
    addresses: [address, ...addressesOf({ ...config.listen, port })],
    decide,
  };
}
