/** An entry of a {@link Heap}; it counts only while its version is the newest of its blob. */
export interface HeapEntry {
  readonly priority: number;
  readonly blob: number;
  readonly version: number;
}

/** A binary heap: the lowest priority is on top. */
export class Heap {
  readonly #entries: HeapEntry[] = [];

  get top(): HeapEntry | undefined {
    return this.#entries[0];
  }

  push(entry: HeapEntry): void {
    const entries = this.#entries;
    let place = entries.push(entry) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (entries[parent]!.priority <= entry.priority) break;
      entries[place] = entries[parent]!;
      place = parent;
    }
    entries[place] = entry;
  }

  pop(): HeapEntry | undefined {
    const entries = this.#entries;
    const [top] = entries;
    const last = entries.pop();
    if (last === undefined || entries.length === 0) return top;
    let place = 0;
    for (let child = 1; child < entries.length; child = 2 * place + 1) {
      if (child + 1 < entries.length && entries[child + 1]!.priority < entries[child]!.priority) child += 1;
      if (last.priority <= entries[child]!.priority) break;
      entries[place] = entries[child]!;
      place = child;
    }
    entries[place] = last;
    return top;
  }
}
