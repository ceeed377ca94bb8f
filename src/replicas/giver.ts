import { setTimeout as sleep } from 'node:timers/promises';
import type { Claim, Coordinator, Lease, Replica } from '../coordination/coordinator.ts';
import type { PeerWant } from '../coordination/peers.ts';
import type { Digest } from '../oci/digest.ts';

/** Maximum claims of one search, apart from those that wait for a replica that fetches. */
const maxClaims = 6;
/** Interval of claims while waiting for a replica that fetches, in milliseconds. */
const waitMs = 25;

export interface GiverOptions {
  readonly coordinator: Coordinator;
  readonly digest: Digest;
  /** How the upstream is reached: only replicas that reach it in the same way can say what it has. */
  readonly access: string;
  /** Whether a replica can be read from. */
  readonly isUseful: (id: string) => boolean;
  /** Whether all that is known against a replica is that it has not answered in time: it is tried once more. */
  readonly isSlow: (id: string) => boolean;
  /** Whether content is read while another replica fetches it; otherwise that is waited for, up to this time. */
  readonly filling: 'followed' | { readonly awaitedUntilMs: number };
  /** Whether the lease of a replica that cannot be reached may be taken over. */
  readonly mayTakeOver: boolean;
  readonly signal: AbortSignal;
}

/** The replica that gives a digest. */
export type Giver =
  /** This replica fetches it from the upstream, for all; the lease has to be renewed or released. */
  | { readonly kind: 'lease'; readonly lease: Lease }
  | { readonly kind: 'replica'; readonly replica: Replica; readonly want: PeerWant }
  /** The upstream, for this replica alone: nothing can be coordinated. */
  | { readonly kind: 'alone' };

/**
 * Finds out who gives a digest, claiming the right to fetch it where no other replica has or fetches it.
 * @throws the signal's reason
 */
export async function findGiver(options: GiverOptions): Promise<Giver> {
  const { coordinator, digest, access, isUseful, isSlow, filling, signal } = options;
  let takeOver: number | undefined;
  let isPatient = false;
  for (let claims = 0; claims < maxClaims; ) {
    signal.throwIfAborted();
    const isWanted = (id: string): boolean => isUseful(id) || (isPatient && isSlow(id));
    const avoid = coordinator.replicas.map(({ id }) => id).filter((id) => !isWanted(id));
    const claim = await coordinator.claim(digest, { avoid, takeOver, lane: access });
    if (claim.kind === 'alone' || claim.kind === 'lease') return claim;
    const replica = claim.replicas.find(({ id }) => isUseful(id)) ?? claim.replicas.find(({ id }) => isWanted(id));
    if (replica && claim.kind === 'held') return { kind: 'replica', replica, want: 'stored' };
    if (replica && filling === 'followed') return { kind: 'replica', replica, want: 'filling' };
    if (claim.kind === 'filling' && filling !== 'followed' && isAwaited(claim, replica)) {
      if (performance.now() >= filling.awaitedUntilMs) break;
      await sleep(waitMs, undefined, { signal });
      continue;
    }
    claims += 1;
    if (claim.kind === 'held') continue;
    // The holder of the lease says every second that bytes arrive: slow to answer, it is not gone.
    if (!isPatient) {
      isPatient = true;
      continue;
    }
    // No replica that fetches it can be reached. One that was replaced does not replace in turn: that would never end.
    if (!options.mayTakeOver || takeOver === claim.fence) break;
    takeOver = claim.fence;
  }
  return { kind: 'alone' };
}

/** Whether content will come soon from a replica that fetches it: one that can be reached, or is not known yet. */
function isAwaited({ replicas }: Claim & { readonly kind: 'filling' }, replica: Replica | undefined): boolean {
  return replica !== undefined || replicas.length === 0;
}
