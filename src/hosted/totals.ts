import type { HostedRegistry } from './hosted-registry.ts';

/** How much a registry hosts. */
export interface HostedTotal {
  readonly repositories: number;
  /** Bytes of all repositories, each counted by itself. */
  readonly bytes: number;
}

/** Counts what a registry hosts; counted again only after a change. */
export class HostedTotals {
  readonly #registry: Pick<HostedRegistry, 'repositories' | 'usage'>;
  #last: { readonly generation: number; readonly total: Promise<HostedTotal> } | undefined;

  constructor(registry: Pick<HostedRegistry, 'repositories' | 'usage'>) {
    this.#registry = registry;
  }

  /** @throws Error of the file system */
  async count(): Promise<HostedTotal> {
    const { generation } = this.#registry.usage;
    if (this.#last?.generation !== generation) {
      const last = { generation, total: this.#count() };
      this.#last = last;
      last.total.catch(() => {
        if (this.#last === last) this.#last = undefined;
      });
    }
    return await this.#last.total;
  }

  async #count(): Promise<HostedTotal> {
    const { repositories, usage } = this.#registry;
    const total = { repositories: 0, bytes: 0 };
    for await (const name of repositories.all()) {
      total.repositories += 1;
      total.bytes += await usage.bytes(name);
    }
    return total;
  }
}
