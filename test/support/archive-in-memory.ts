import type { Archive } from '../../src/archive/archive.ts';
import type { LayoutFiles } from './layouts.ts';

/** An archive in memory, each of whose files comes in two chunks. */
export function archiveOf(files: LayoutFiles, unreadable: Readonly<Record<string, string>> = {}): Archive {
  return {
    files: new Map(Object.entries(files).map(([name, bytes]) => [name, bytes.length])),
    unreadable: new Map(Object.entries(unreadable)),
    resolve: (name) => (name in files ? name : undefined),
    isNear: () => true,
    async *visit(names) {
      for (const [name, bytes] of Object.entries(files)) {
        if (!names.has(name)) continue;
        async function* body() {
          const middle = Math.ceil(bytes.length / 2);
          yield bytes.subarray(0, middle);
          yield bytes.subarray(middle);
        }
        yield { name, size: bytes.length, body: body() };
      }
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
