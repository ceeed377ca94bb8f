import { describe, expect, test } from 'vitest';
import { Pace, type PaceOptions } from '../../src/mirror/fill/pace.ts';

const MiB = 1024 * 1024;
/** The last 4 MiB are in memory. */
function startPace(options: Partial<PaceOptions> = {}, capacityBytes = 4 * MiB): Pace {
  const { signal } = new AbortController();
  return new Pace({ capacityBytes }, { isAlone: () => true, signal, ...options });
}

describe('a fill', () => {
  test('waits for its only reader while the bytes that it wants are about to leave memory', async () => {
    const pace = startPace();
    pace.reached(0);
    expect(pace.wait(3 * MiB)).toBeUndefined();
    const waiting = pace.wait(3.5 * MiB);
    expect(waiting).toBeDefined();
    pace.reached(MiB);
    await waiting;
    // It has time left: the reader came, and not the end of the wait.
    expect(pace.wait(3.5 * MiB)).toBeUndefined();
    expect(pace.wait(4.5 * MiB)).toBeDefined();
  });

  test('waits for no reader that has not read, that is far behind, or that is one of several', () => {
    const pace = startPace();
    expect(pace.wait(4 * MiB)).toBeUndefined();
    pace.reached(0);
    expect(pace.wait(4 * MiB + 1)).toBeUndefined();
    for (const another of [startPace({ isAlone: () => false }), startPace({}, MiB)]) {
      another.reached(0);
      expect(another.wait(4 * MiB)).toBeUndefined();
    }
  });

  test('waits no longer when another reader joins, or it is to end', async () => {
    let isAlone = true;
    const joined = startPace({ isAlone: () => isAlone });
    joined.reached(0);
    const untilJoined = joined.wait(4 * MiB);
    expect(untilJoined).toBeDefined();
    isAlone = false;
    joined.changed();
    await untilJoined;
    const ending = new AbortController();
    const ended = startPace({ signal: ending.signal });
    ended.reached(0);
    const untilEnded = ended.wait(4 * MiB);
    expect(untilEnded).toBeDefined();
    ending.abort();
    await untilEnded;
  });

  test('goes on without a reader that has come to a halt, and waits again only for what has come since', async () => {
    const pace = startPace();
    pace.reached(0);
    await pace.wait(4 * MiB);
    expect(pace.wait(4 * MiB)).toBeUndefined();
    pace.reached(2 * MiB);
    expect(pace.wait(6 * MiB)).toBeDefined();
  });
});
