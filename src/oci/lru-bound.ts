/** Options of an `LRUCache` that takes memory as it fills. */
export interface LruBound {
  readonly maxSize: number;
  readonly sizeCalculation: () => number;
}

/**
 * The bound of an `LRUCache` that may have many entries. Its own `max` takes the memory of all of them when it is made:
 * a start with a dozen of them took 50 ms and 10 MB more.
 */
export function upTo(entries: number): LruBound {
  return { maxSize: entries, sizeCalculation: () => 1 };
}
