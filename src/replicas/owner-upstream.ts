import type { OwnerLink } from '../coordination/owner-link.ts';
import { RegistryError } from '../oci/error.ts';
import type { Freshness, Upstream } from '../upstream/upstream.ts';
import { OwnerClient } from './owner-client.ts';

/** The first part of the cache's names of hosted repositories that another replica keeps. No client can name it. */
const ownerUpstreamName = '_hosted';

/** Connections to the owner for blobs at a time. */
const maxConnections = 32;

/**
 * The replica that keeps the hosted repositories, as an upstream of this one: what is read through it is cached like
 * what comes from any other, and a tag is always asked for.
 */
export function ownerUpstream(
  link: OwnerLink,
  options: { readonly staleIfErrorMs: () => number; readonly answerMs: number; readonly maxManifestBytes: number },
): Upstream {
  const { staleIfErrorMs, answerMs, maxManifestBytes } = options;
  const isAvailable = (): boolean => link.away === undefined;
  return {
    name: ownerUpstreamName,
    aliases: [],
    hosts: [],
    get freshness(): Freshness {
      return { tagTtlMs: 0, staleIfErrorMs: staleIfErrorMs(), negativeTtlMs: 0 };
    },
    answerMs,
    maxConnections,
    connectionsPerBlob: 1,
    // Nothing is shared with other replicas: the owner is as near as they are.
    fingerprint: () => Promise.reject(new RegistryError('no-credentials', 'the owner is asked as a replica')),
    allows: () => true,
    client: new OwnerClient(link, { maxManifestBytes }),
    isSparing: false,
    rateLimit: undefined,
    get isAvailable() {
      return isAvailable();
    },
    isAvailableFor: isAvailable,
    status: () => ({
      endpoints: [
        {
          url: link.address,
          ...(isAvailable() ? { state: 'available' } : { state: 'broken', reason: link.away ?? '' }),
          tokenService: { state: 'available' },
          traits: {},
        },
      ],
    }),
  };
}
