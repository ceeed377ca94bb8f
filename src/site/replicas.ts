import type { Config, RedisConfig } from '../config/config.ts';
import type { RedisLocation } from '../coordination/connection.ts';
import type { Replica } from '../coordination/coordinator.ts';
import type { Membership } from '../coordination/fleet.ts';
import { identityContext, OwnerLink, type OwnerLinkOptions } from '../coordination/owner-link.ts';
import { PeerPass } from '../coordination/peer-pass.ts';
import { Peers, type PeerTrouble } from '../coordination/peers.ts';
import { Seal } from '../coordination/seal.ts';
import { SharedCoordinator } from '../coordination/shared.ts';
import type { Condition } from '../http/operator-routes.ts';
import type { PeerRoutesOptions } from '../http/peer-routes.ts';
import type { ServerTls } from '../http/server.ts';
import type { Digest } from '../oci/digest.ts';
import { Replicas } from '../replicas/replicas.ts';
import type { Logger } from '../telemetry/logger.ts';
import { backgroundReport } from './background-report.ts';
import { named } from './configured-files.ts';
import type { Parts } from './parts.ts';
import type { FileTexts } from './watched-files.ts';

/** The connection of a replica with the others. */
export interface LiveReplicas extends AsyncDisposable {
  readonly replicas: Replicas;
  readonly routes: PeerRoutesOptions;
  /** How this replica reaches the one that keeps the hosted repositories. @param address its origin */
  linkTo(address: string): OwnerLink;
  /** Shows other replicas this certificate from now on. */
  renewTls(tls: ServerTls): void;
  status(): ReplicasStatus;
  /**
   * Call it when the mirror can be reached.
   * @param address `host:port` it listens on
   */
  join(address: string, membership: Membership): void;
}

/** The status of the other replicas and of Redis. */
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
    /** Its last failure; `null` once it has given anything since. */
    readonly trouble: PeerTrouble | null;
  }[];
  /** Blobs that this replica fetches for all. */
  readonly leases: readonly { readonly digest: Digest; readonly fence: number }[];
}

/**
 * Connects a mirror with its replicas, as far as its configuration names a Redis. Nothing waits for that Redis.
 * @throws Error in one sentence where a file cannot be used
 */
export async function openReplicas(
  config: Config,
  parts: Parts & { readonly redisDeadlineMs?: number | undefined; readonly tls: ServerTls | undefined },
): Promise<LiveReplicas | undefined> {
  const { redis, cluster } = config;
  const { log, metrics, health, now } = parts;
  if (!redis || cluster.secretFile === undefined) return undefined;
  let ownAddress = '';
  const { coordinator, seal } = await openCoordinator({ ...config, redis }, { ...parts, ownAddress: () => ownAddress });
  const pass = new PeerPass({ seal, toleranceMs: cluster.clockToleranceMs, now });
  const peers = new Peers({
    pass,
    self: () => coordinator.self,
    tls: parts.tls,
    onFailure({ id, address }, { fault, words: reason }, { isNew }) {
      metrics.peerFailures.inc({ fault });
      if (isNew) log.warn({ replica: id, address, fault, reason }, 'another replica cannot be read from');
    },
  });
  metrics.watchReplicas(() => {
    const { state, replicas, leases } = coordinator.status();
    return { connected: state === 'connected', replicas: replicas.length + 1, leases: leases.length };
  });
  health.watch(() => redisConditions(coordinator));
  const links: OwnerLink[] = [];
  const copies = cluster.placement === 'sharded' ? cluster.copies : undefined;
  return {
    replicas: new Replicas({ coordinator, peers, copies }),
    routes: {
      admit: ({ method, url, range, pass: header, caller }) =>
        pass.check({ method, path: url, range, to: `${coordinator.self}:${coordinator.boot}`, caller }, header),
      identify: (nonce) => seal.close(identityContext, { id: coordinator.self, boot: coordinator.boot, nonce }),
      report: ({ result, bytes }) => {
        metrics.peerRequests.inc({ result });
        metrics.peerSentBytes.inc(bytes);
      },
    },
    linkTo(address) {
      const link = linkTo(address, { pass, seal, self: () => coordinator.self, tls: parts.tls, log });
      links.push(link);
      return link;
    },
    renewTls(tls) {
      peers.renewTls(tls);
      for (const link of links) link.renewTls(tls);
    },
    status: () => replicasStatus(coordinator, { peers, address: ownAddress, placement: cluster.placement }),
    join(address, membership) {
      ownAddress = cluster.advertise ?? `${parts.tls ? 'https' : 'http'}://${address}`;
      coordinator.join(ownAddress, membership);
    },
    async [Symbol.asyncDispose]() {
      await coordinator[Symbol.asyncDispose]();
      peers[Symbol.dispose]();
      for (const link of links) link[Symbol.dispose]();
    },
  };
}

/** A link to the owner of the hosted repositories, which logs when that is lost and found again. */
function linkTo(
  address: string,
  { log, ...options }: Pick<OwnerLinkOptions, 'pass' | 'seal' | 'self' | 'tls'> & Pick<Parts, 'log'>,
): OwnerLink {
  return new OwnerLink({
    ...options,
    address,
    onChange(reason) {
      if (reason === undefined) log.info({ address }, 'the owner of the hosted repositories is reached again');
      else log.error({ address, reason }, 'the owner of the hosted repositories cannot be reached: no pushes');
    },
  });
}

/** The coordinator, which takes another login and another secret when their files change. */
async function openCoordinator(
  { redis, cluster, offline }: Config & { readonly redis: RedisConfig },
  parts: Parts & { readonly redisDeadlineMs?: number | undefined; readonly ownAddress: () => string },
): Promise<{ coordinator: SharedCoordinator; seal: Seal }> {
  const { log, files, redisDeadlineMs, ownAddress } = parts;
  let coordinator: SharedCoordinator | undefined;
  let location: RedisLocation | undefined;
  let seal: Seal | undefined;
  await files.take('cluster', {
    name: 'secret',
    files: named(['cluster'], { secretFile: cluster.secretFile }),
    code: 'file-refused',
    take(texts) {
      const secret = secretOf(texts, cluster.secretFile);
      seal ??= new Seal(secret);
      coordinator?.renewSecret(secret);
    },
  });
  const { passwordFile, sentinelPasswordFile, caFile } = redis;
  await files.take('redis', {
    name: 'login',
    files: named(['redis'], { passwordFile, sentinelPasswordFile, caFile }),
    code: 'file-refused',
    take(texts) {
      location = locationOf(redis, texts);
      coordinator?.renewLogin(location);
    },
  });
  coordinator = new SharedCoordinator({
    location: location!,
    keyPrefix: redis.keyPrefix,
    seal: seal!,
    report: backgroundReport(parts),
    isOffline: offline,
    deadlineMs: redisDeadlineMs,
    onChange: changeLog(log, ownAddress),
    onUnread: (changes) =>
      log.warn({ changes }, 'operators removed or pinned images, signed with another secret: not done here'),
  });
  return { coordinator, seal: seal! };
}

function redisConditions(coordinator: SharedCoordinator): Condition[] {
  const { state, reason } = coordinator.status();
  if (state !== 'lost') return [];
  const text = `Redis ${reason}: this replica is on its own, and may fetch what others have`;
  return [{ code: 'redis-lost', text }];
}

function replicasStatus(
  coordinator: SharedCoordinator,
  { peers, address, placement }: { peers: Peers; address: string; placement: 'everywhere' | 'sharded' },
): ReplicasStatus {
  const { self, state, reason, replicas, leases } = coordinator.status();
  return {
    self,
    address,
    redis: { state, reason: reason ?? null },
    placement,
    others: replicas.map(({ id, address: other }) => ({
      id,
      address: other,
      avoided: peers.isAvoided(id),
      trouble: peers.trouble(id) ?? null,
    })),
    leases: leases.map(({ digest, fence }) => ({ digest, fence })),
  };
}

/**
 * Logs which replicas have come and gone; not all that are there, which may be thousands.
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

/** Where Redis is and what it is shown, from the configuration and the texts of its files. */
function locationOf({ url, sentinelUsername }: RedisConfig, texts: FileTexts): RedisLocation {
  const { kind, tls, hosts, username, db, name } = url;
  const password = texts['redis.passwordFile']?.trim() ?? url.password?.reveal();
  const sentinelPassword = texts['redis.sentinelPasswordFile']?.trim();
  const common = { tls, ca: texts['redis.caFile'], username, password };
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

function secretOf(texts: FileTexts, file: string | undefined): Buffer {
  const [text = ''] = Object.values(texts);
  const secret = Buffer.from(text.trim());
  if (secret.length < 16) throw new Error(`cluster.secretFile: ${file} holds fewer than 16 bytes`);
  return secret;
}
