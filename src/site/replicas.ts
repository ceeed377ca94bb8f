import { readFile } from 'node:fs/promises';
import type { Config, RedisConfig } from '../config/config.ts';
import type { RedisLocation } from '../coordination/connection.ts';
import type { Replica } from '../coordination/coordinator.ts';
import type { Membership } from '../coordination/fleet.ts';
import { PeerPass } from '../coordination/peer-pass.ts';
import { Peers, type PeerTrouble } from '../coordination/peers.ts';
import { Seal } from '../coordination/seal.ts';
import { SharedCoordinator } from '../coordination/shared.ts';
import type { PeerRoutesOptions } from '../http/peer-routes.ts';
import { Replicas } from '../mirror/sharing/replicas.ts';
import type { Digest } from '../oci/digest.ts';
import type { Logger, Metrics } from '../telemetry.ts';
import type { Health } from './health.ts';
import { linkObserver } from './observers.ts';

/** What a replica needs of the others, and what it gives them. */
export interface LiveReplicas extends AsyncDisposable {
  readonly replicas: Replicas;
  readonly routes: PeerRoutesOptions;
  status(): ReplicasStatus;
  /**
   * To be called when the mirror can be reached.
   * @param address `host:port` it listens on
   */
  join(address: string, membership: Membership): void;
}

/** The other replicas and Redis, for those who watch. */
export interface ReplicasStatus {
  readonly self: string;
  /** Where the others reach this one. */
  readonly address: string;
  readonly redis: { readonly state: 'connected' | 'lost' | 'alone'; readonly reason: string | null };
  readonly placement: 'everywhere' | 'sharded';
  readonly others: readonly {
    readonly id: string;
    readonly address: string;
    readonly avoided: boolean;
    /** What it has failed with, as long as it has given nothing since. */
    readonly trouble: PeerTrouble | null;
  }[];
  /** Blobs that this replica fetches for all. */
  readonly leases: readonly { readonly digest: Digest; readonly fence: number }[];
}

export interface LiveReplicasOptions {
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly health: Health;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
  /** Longest wait for an answer of Redis, in milliseconds. */
  readonly redisDeadlineMs?: number | undefined;
}

/**
 * Connects a mirror with its replicas, as far as its configuration names a Redis. Nobody waits for that Redis.
 * @throws Error in one sentence where a file cannot be used
 */
export async function openReplicas(config: Config, options: LiveReplicasOptions): Promise<LiveReplicas | undefined> {
  const { redis, cluster, tls } = config;
  const { log, metrics, health, now, redisDeadlineMs } = options;
  if (!redis || cluster.secretFile === undefined) return undefined;
  let ownAddress = '';
  const seal = sealOf(await read(cluster.secretFile, 'cluster.secretFile'), cluster.secretFile);
  const coordinator = new SharedCoordinator({
    location: await locationOf(redis),
    keyPrefix: redis.keyPrefix,
    seal,
    observer: linkObserver({ log, metrics }),
    isOffline: config.offline,
    deadlineMs: redisDeadlineMs,
    onChange: changeLog(log, () => ownAddress),
    onUnread: (changes) =>
      log.warn({ changes }, 'operators removed or pinned images, signed with another secret: not done here'),
  });
  const pass = new PeerPass({ seal, toleranceMs: cluster.clockToleranceMs, now });
  const peers = new Peers({
    pass,
    self: () => coordinator.self,
    tls: tls && {
      cert: await read(tls.certFile, 'tls.certFile'),
      key: await read(tls.keyFile, 'tls.keyFile'),
      ca: tls.clientCaFile === undefined ? undefined : await read(tls.clientCaFile, 'tls.clientCaFile'),
    },
    onFailure({ id, address }, { fault, words: reason }, { isNew }) {
      metrics.peerFailures.inc({ fault });
      if (isNew) log.warn({ replica: id, address, fault, reason }, 'another replica cannot be read from');
    },
  });
  const status = () => coordinator.status();
  metrics.watchReplicas(() => {
    const { state, replicas, leases } = status();
    return { connected: state === 'connected', replicas: replicas.length + 1, leases: leases.length };
  });
  health.watch(() => {
    const { state, reason } = status();
    if (state !== 'lost') return [];
    const text = `Redis ${reason}: this replica is on its own, and may fetch what others have`;
    return [{ code: 'redis-lost', text }];
  });
  const copies = cluster.placement === 'sharded' ? cluster.copies : undefined;
  return {
    replicas: new Replicas({ coordinator, peers, copies }),
    routes: {
      admit: ({ method, url, range, pass: header }) =>
        pass.check({ method, path: url, range, to: `${coordinator.self}:${coordinator.boot}` }, header),
      observer: ({ result, bytes }) => {
        metrics.peerRequests.inc({ result });
        metrics.peerSentBytes.inc(bytes);
      },
    },
    status() {
      const { self, state, reason, replicas, leases } = status();
      return {
        self,
        address: ownAddress,
        redis: { state, reason: reason ?? null },
        placement: cluster.placement,
        others: replicas.map(({ id, address }) => ({
          id,
          address,
          avoided: peers.isAvoided(id),
          trouble: peers.trouble(id) ?? null,
        })),
        leases,
      };
    },
    join(address, membership) {
      ownAddress = cluster.advertise ?? `${tls ? 'https' : 'http'}://${address}`;
      coordinator.join(ownAddress, membership);
    },
    async [Symbol.asyncDispose]() {
      await coordinator[Symbol.asyncDispose]();
      peers[Symbol.dispose]();
    },
  };
}

/**
 * Logs who has come and who has gone; not all who are there, of whom there may be thousands.
 * @param ownAddress where the others reach this one
 */
function changeLog(log: Logger, ownAddress: () => string): (replicas: readonly Replica[]) => void {
  let known: ReadonlySet<string> = new Set();
  return (replicas) => {
    const addresses = new Set(replicas.map(({ address }) => address));
    const came = [...addresses].filter((address) => !known.has(address));
    const gone = [...known].filter((address) => !addresses.has(address));
    known = addresses;
    if (came.length + gone.length > 0) log.info({ others: addresses.size, came, gone }, 'replicas changed');
    if (came.includes(ownAddress())) {
      log.warn(
        { address: ownAddress() },
        'another replica has the address of this one: look at cluster.advertise of both',
      );
    }
  };
}

async function locationOf({ url, sentinelUsername, ...files }: RedisConfig): Promise<RedisLocation> {
  const { kind, tls, hosts, username, db, name } = url;
  const given = async (key: 'passwordFile' | 'sentinelPasswordFile' | 'caFile'): Promise<string | undefined> => {
    const file = files[key];
    return file === undefined ? undefined : await read(file, `redis.${key}`);
  };
  const password = (await given('passwordFile'))?.trim() ?? url.password?.reveal();
  const sentinelPassword = (await given('sentinelPasswordFile'))?.trim();
  const ca = await given('caFile');
  const common = { tls, ca, username, password };
  switch (kind) {
    case 'single':
      return { ...common, kind, db, ...hosts[0]! };
    case 'sentinel':
      return { ...common, kind, db, name, sentinels: hosts, sentinelUsername, sentinelPassword };
    case 'cluster':
      return { ...common, kind, nodes: hosts };
    default:
      return kind satisfies never;
  }
}

function sealOf(text: string, file: string): Seal {
  try {
    return new Seal(Buffer.from(text.trim()));
  } catch (error) {
    throw new Error(`cluster.secretFile: ${file} holds fewer than 16 bytes`, { cause: error });
  }
}

async function read(file: string, key: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new Error(`${key}: ${file} cannot be read: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
}
