/** A set of byte positions as disjoint extents in order; adjacent ones are merged. */
export class Extents {
  /** Each from `start` up to, not including, `end`. */
  #stretches: { start: number; end: number }[] = [];

  get isEmpty(): boolean {
    return this.#stretches.length === 0;
  }

  /** End of the highest extent; 0 if there is none. */
  get end(): number {
    return this.#stretches.at(-1)?.end ?? 0;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    let merged = { start, end };
    const apart: { start: number; end: number }[] = [];
    for (const stretch of this.#stretches) {
      if (stretch.end < merged.start || stretch.start > merged.end) apart.push(stretch);
      else merged = { start: Math.min(stretch.start, merged.start), end: Math.max(stretch.end, merged.end) };
    }
    this.#stretches = [...apart, merged].toSorted((a, b) => a.start - b.start);
  }

  /** The end of the extent that contains `position`; `position` itself if there is none. */
  endAt(position: number): number {
    return this.#stretches.find(({ start, end }) => start <= position && position < end)?.end ?? position;
  }

  /** The start of the next extent above `position`. */
  startAfter(position: number): number | undefined {
    return this.#stretches.find(({ start }) => start > position)?.start;
  }

  /** Keeps only what lies at or above `position`. */
  dropBelow(position: number): void {
    this.#stretches = this.#stretches
      .filter(({ end }) => end > position)
      .map(({ start, end }) => ({ start: Math.max(start, position), end }));
  }

  clear(): void {
    this.#stretches = [];
  }
}
