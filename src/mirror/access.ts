import type { Coordinator } from '../coordination/coordinator.ts';
import { RegistryError } from '../oci/error.ts';
import type { Upstream } from '../upstream/upstream.ts';

/**
 * Identifies how an upstream is asked, for comparison with other replicas: its answers apply to all that ask it in the
 * same way.
 * @returns `undefined` if nothing is shared: without replicas, or if the credentials are unknown
 */
export async function accessTo(upstream: Upstream, coordinator: Coordinator): Promise<string | undefined> {
  if (coordinator.isAlone) return undefined;
  try {
    return await upstream.fingerprint((text) => coordinator.mark(text));
  } catch (error) {
    if (error instanceof RegistryError) return undefined;
    throw error;
  }
}
