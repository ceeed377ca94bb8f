import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Extents } from '../../src/store/files/extents.ts';

// The same cases each time.
fc.configureGlobal({ seed: 1 });

const size = 40;
const stretch = fc.tuple(fc.nat(size), fc.nat(size));

test('stretches answer like a set of single positions', () => {
  fc.assert(
    fc.property(fc.array(stretch), fc.nat(size), fc.nat(size), (stretches, position, floor) => {
      const extents = new Extents();
      const model = new Set<number>();
      for (const [start, end] of stretches) {
        extents.add(start, end);
        for (let at = start; at < end; at += 1) model.add(at);
      }
      extents.dropBelow(floor);
      for (let at = 0; at < floor; at += 1) model.delete(at);
      let end = position;
      while (model.has(end)) end += 1;
      expect(extents.endAt(position)).toBe(end);
      const starts = [...model].filter((at) => !model.has(at - 1) && at > position);
      expect(extents.startAfter(position)).toBe(starts.length > 0 ? Math.min(...starts) : undefined);
      expect(extents.isEmpty).toBe(model.size === 0);
      expect(extents.end).toBe(model.size === 0 ? 0 : Math.max(...model) + 1);
    }),
  );
});
