/** How the changes of one folder of `src/` are judged. */
export interface MutatedFolder {
  /** Folders and files of `test/` that are about it; those that import the changed file run before the others. */
  readonly near: readonly string[];
  /** Run where those have seen nothing. */
  readonly far: readonly string[];
}

/** The folders that mutation testing is about: what decides which bytes are given to whom. */
export const folders: Readonly<Record<string, MutatedFolder>> = {
  upstream: {
    near: ['test/upstream'],
    far: ['test/upstream-faults', 'test/http/selection', 'test/http/listings', 'test/mirror/upstream-down'],
  },
  archive: { near: ['test/archive', 'test/fuzz/archives'], far: ['test/cli/import', 'test/cli/export'] },
  coordination: {
    near: ['test/coordination', 'test/fuzz/replicas'],
    far: ['test/cluster/peers'],
  },
  store: { near: ['test/store'], far: ['test/lost-catalog', 'test/mirror/scrub'] },
  mirror: {
    near: ['test/mirror'],
    far: [
      'test/http/answers',
      'test/http/listings',
      'test/cluster/peers',
      'test/cluster/sharded',
      'test/cluster/empty-replica',
    ],
  },
  replicas: {
    near: ['test/replicas'],
    far: ['test/cluster/freshness', 'test/cluster/one-fetch', 'test/cluster/holdings', 'test/cluster/hosted'],
  },
  operations: {
    near: ['test/operations', 'test/site'],
    far: ['test/cli/administration', 'test/cli/ls', 'test/cli/import', 'test/cli/export', 'test/cli/fetch'],
  },
};
