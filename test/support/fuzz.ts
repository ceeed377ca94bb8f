import fc from 'fast-check';

/** How long `npm run fuzz` lets each property run, in seconds; `undefined` in `npm test`. */
const seconds = Number(process.env['MILLPOND_FUZZ_SECONDS'] ?? '') || undefined;
const seed = Number(process.env['MILLPOND_FUZZ_SEED'] ?? '') || undefined;

/**
 * Tries a property with generated inputs: the same few in each run of `npm test`, others for as long as
 * is wanted under `npm run fuzz`.
 * @param options `runs`: how many in `npm test`; `shrinks`: false where a try takes long: the first failure is reported as
 *   it is
 */
export async function fuzz<Values extends [unknown, ...unknown[]]>(
  arbitraries: { [Key in keyof Values]: fc.Arbitrary<Values[Key]> },
  check: (...values: Values) => void | Promise<void>,
  { runs = 200, shrinks = true }: { readonly runs?: number; readonly shrinks?: boolean } = {},
): Promise<void> {
  const property = fc.asyncProperty(...arbitraries, async (...values: Values) => {
    await check(...values);
  });
  const bounds =
    seconds === undefined
      ? { seed: 1, numRuns: runs }
      : { seed: seed ?? Date.now(), numRuns: Number.MAX_SAFE_INTEGER, interruptAfterTimeLimit: seconds * 1000 };
  await fc.assert(property, { ...bounds, endOnFailure: !shrinks });
}

/** Texts made of pieces that mean something to a parser, and of any others. */
export function textOf(...pieces: readonly string[]): fc.Arbitrary<string> {
  const piece = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...pieces) }, fc.string({ maxLength: 5 }));
  return fc.array(piece, { maxLength: 30 }).map((parts) => parts.join(''));
}

/** Bytes that are nearly right: some of them changed, left out, or put in. */
export function damaged(right: Uint8Array): fc.Arbitrary<Buffer> {
  const change = fc.record({
    at: fc.nat(Math.max(0, right.length - 1)),
    kind: fc.constantFrom('set', 'cut', 'insert', 'end', 'repeat'),
    byte: fc.oneof(fc.nat(255), fc.constantFrom(0, 0x22, 0x5b, 0x7b, 0x2c, 0x39, 0xff)),
    length: fc.nat(600),
  });
  return fc.array(change, { maxLength: 6 }).map((changes) => {
    let bytes = Buffer.from(right);
    for (const { at, kind, byte, length } of changes) {
      const place = Math.min(at, bytes.length);
      const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)];
      if (kind === 'set') bytes = Buffer.concat([before, Buffer.from([byte]), after.subarray(1)]);
      else if (kind === 'cut') bytes = Buffer.concat([before, after.subarray(length)]);
      else if (kind === 'insert') bytes = Buffer.concat([before, Buffer.alloc(length % 50, byte), after]);
      else if (kind === 'repeat') bytes = Buffer.concat([before, after.subarray(0, length), after]);
      else bytes = Buffer.from(before);
    }
    return bytes;
  });
}
