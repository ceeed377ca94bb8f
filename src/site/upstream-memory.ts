import type { MemoryBudget } from '../memory/memory-budget.ts';
import { MemoryShare } from '../memory/memory-share.ts';
import type { ArrivingMemory } from '../upstream/options.ts';

const MiB = 1024 * 1024;
/** The parts of the budget that manifests on their way may take, of all upstreams and of one; one fits in any case. */
const manifests = { all: 1 / 2, each: 1 / 4, leastBytes: 8 * MiB };
/** The same for lists. */
const lists = { all: 1 / 4, each: 1 / 8, leastBytes: 17 * MiB };

/** Keeps the manifests and lists of one upstream from taking the memory that others, and answers to clients, need. */
export class UpstreamMemory {
  readonly #manifests: MemoryShare;
  readonly #lists: MemoryShare;

  constructor(budget: MemoryBudget) {
    this.#manifests = new MemoryShare(budget, { part: manifests.all, leastBytes: manifests.leastBytes });
    this.#lists = new MemoryShare(budget, { part: lists.all, leastBytes: lists.leastBytes });
  }

  /** The share of one upstream. */
  ofUpstream(): ArrivingMemory {
    return {
      manifests: new MemoryShare(this.#manifests, { part: manifests.each, leastBytes: manifests.leastBytes }),
      lists: new MemoryShare(this.#lists, { part: lists.each, leastBytes: lists.leastBytes }),
    };
  }
}
