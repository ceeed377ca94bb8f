import type { Coordinator } from '../../coordination/coordinator.ts';
import { RegistryError } from '../../oci/error.ts';
import type { Upstream } from '../../upstream/upstream.ts';

/**
 * The way in which an upstream is reached, for comparison with other replicas: what it says counts among those who ask it
 * in the same way.
 * @returns `undefined` where nothing is to be shared: alone, or not known what the upstream is shown
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
