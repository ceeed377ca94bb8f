import type { PeerFault } from '../../src/coordination/peer-failure.ts';
import type { PeerAccess } from '../../src/coordination/peers.ts';

/** Other replicas that give nothing. @param avoided those that have failed; `more`: what is done otherwise */
export function quietPeers(avoided: ReadonlyMap<string, PeerFault>, more: Partial<PeerAccess> = {}): PeerAccess {
  return {
    open: () => Promise.reject(new Error('nothing is read here')),
    askToCopy: () => Promise.resolve(),
    ask: () => Promise.resolve(undefined),
    avoid: () => undefined,
    isAvoided: (id) => avoided.has(id),
    isSlow: (id) => avoided.get(id) === 'silent',
    ...more,
  };
}
