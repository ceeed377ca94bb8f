import type { Locks } from '../waiting/locks.ts';
import type { HostedBlobs } from './blobs.ts';
import type { HostedLayout } from './layout.ts';
import type { HostedRepositories } from './repositories.ts';
import type { Usage } from './usage.ts';

/** The dependencies that the parts of a hosted registry share; each picks those that it uses. */
export interface RegistryParts {
  readonly layout: HostedLayout;
  readonly blobs: HostedBlobs;
  readonly repositories: HostedRepositories;
  readonly usage: Usage;
  /** By repository: a push, a change or a removal of its manifests or tags holds it. */
  readonly locks: Locks;
  /** Wall clock in milliseconds. */
  readonly now: () => number;
}
