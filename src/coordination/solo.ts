import type { Claim, Coordinator, CoordinatorStatus, MissingAnswer, TagClaim } from './coordinator.ts';

const nothing: AsyncDisposable = { [Symbol.asyncDispose]: () => Promise.resolve() };

/** A single replica: there are no others to coordinate with. */
export class SoloCoordinator implements Coordinator {
  readonly isAlone = true;
  readonly self = '';
  readonly boot = '';
  readonly epoch = '';
  readonly replicas = [];
  readonly position = undefined;

  claim(): Promise<Claim> {
    return Promise.resolve({ kind: 'alone' });
  }

  renew(): Promise<'held' | 'lost' | 'unknown'> {
    return Promise.resolve('unknown');
  }

  async release(): Promise<void> {}

  async hold(): Promise<void> {}

  holders(): Promise<[]> {
    return Promise.resolve([]);
  }

  drop(): void {}

  mark(): string {
    return '';
  }

  claimTag(): Promise<TagClaim> {
    return Promise.resolve({ kind: 'alone' });
  }

  async recordTag(): Promise<void> {}

  async leaveTag(): Promise<void> {}

  missing(): Promise<MissingAnswer | undefined> {
    return Promise.resolve(undefined);
  }

  async recordMissing(): Promise<void> {}

  enter(): Promise<AsyncDisposable> {
    return Promise.resolve(nothing);
  }

  async announce(): Promise<void> {}

  subscribe(): Disposable {
    return { [Symbol.dispose]: () => undefined };
  }

  status(): CoordinatorStatus {
    return { state: 'alone', self: '', replicas: [], leases: [] };
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
