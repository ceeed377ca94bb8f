import type { Upstream } from '../upstream/upstream.ts';

/** What an upstream may tell of itself without being asked. */
interface Reporting {
  readonly isSparing?: boolean;
  status?(): {
    readonly endpoints: readonly { readonly state: string; readonly tokenService?: { readonly state: string } }[];
  };
}

/** Whether so few pulls are left that only what is not here at all may spend one. */
export function isSparing(upstream: Upstream): boolean {
  return (upstream as Reporting).isSparing ?? false;
}

/** Whether an upstream is known not to answer at any of its URLs: then what would need it is not begun. */
export function isInTrouble(upstream: Upstream): boolean {
  const status = (upstream as Reporting).status?.();
  if (status === undefined) return false;
  return !status.endpoints.some(
    ({ state, tokenService }) => state === 'available' && (tokenService?.state ?? 'available') === 'available',
  );
}
