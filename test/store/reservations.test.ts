import { describe, expect, test } from 'vitest';
import { Arrival, type Part } from '../../src/store/eviction/arrival.ts';
import { Reservations } from '../../src/store/eviction/reservations.ts';
import { digest } from './image-parts.ts';

/** Reservations of 1,000 bytes, and images of one part each, or of several. */
function start() {
  const reservations = new Reservations(() => 1_000);
  const image = (name: string, bytes: number, pinnedBytes = 0): Arrival => {
    const arrival = new Arrival(digest(name));
    const add = (of: string, size: number, isPinned: boolean): void => {
      const part: Part = {
        digest: digest(`${name} ${of}`),
        bytes: size,
        isStored: false,
        isReceived: false,
        isPinned,
        arrivals: new Set([arrival]),
        admitted: 0,
        lasting: 0,
        arriving: 0,
      };
      arrival.parts.add(part);
    };
    add('layer', bytes, false);
    if (pinnedBytes > 0) add('pinned', pinnedBytes, true);
    reservations.ask(arrival);
    return arrival;
  };
  return {
    reservations,
    image,
    /** All bytes of images have come, of one after the other. */
    receive: (...arrivals: Arrival[]) => {
      for (const arrival of arrivals) reservations.received(arrival);
      reservations.settle();
    },
    end: (arrival: Arrival) => {
      reservations.end(arrival);
      reservations.settle();
    },
  };
}

async function isDecided({ decided }: Arrival): Promise<boolean> {
  return await Promise.race([decided.promise.then(() => true), new Promise<boolean>((r) => setImmediate(r, false))]);
}

describe('an image that asks for room', () => {
  test('is decided on when it is admitted, refused or over', async () => {
    const { reservations, image, end } = start();
    const [admitted, never, waits, last] = [image('a', 900), image('b', 1_001), image('c', 200), image('d', 300)];
    expect([admitted, never, waits, last].map(({ state }) => state)).toEqual([
      'admitted',
      'refused',
      'waiting',
      'waiting',
    ]);
    expect(await Promise.all([admitted, never, waits, last].map(isDecided))).toEqual([true, true, false, false]);
    expect(reservations.refuseLast()).toBe(true);
    expect([last.state, await isDecided(last), await isDecided(waits)]).toEqual(['refused', true, false]);
    end(waits);
    expect([await isDecided(waits), reservations.refuseLast()]).toEqual([true, false]);
    end(admitted);
    expect([reservations.bytes.held, reservations.bytes.coming, reservations.bytes.arriving]).toEqual([0, 0, 0]);
  });

  test('gives its room to the next one when it is refused after all', () => {
    const { reservations, image } = start();
    const [one, two] = [image('a', 900), image('b', 200)];
    reservations.refuse(one);
    expect([one.state, two.state, reservations.bytes.coming]).toEqual(['refused', 'admitted', 200]);
  });
});

describe('images that have been received', () => {
  test('keep their place in the order, and let others that are on their way go before them', () => {
    const { image, receive } = start();
    const stored = image('a', 700);
    const waits = image('b', 400);
    receive(stored, waits);
    expect([stored.receivedOrder, waits.receivedOrder, waits.state]).toEqual([1, 2, 'waiting']);
    receive(stored);
    expect(stored.receivedOrder).toBe(1);
    expect([image('c', 200).state, waits.state]).toEqual(['admitted', 'waiting']);
  });

  test('do not take the room of those that were received after them and are stored by now', () => {
    const { image, receive, end } = start();
    // Pinned blobs take nothing of the room.
    const [older, newer] = [image('a', 300), image('c', 300, 5_000)];
    const waits = image('b', 500);
    receive(older, waits, newer);
    expect([older.state, waits.state, newer.state]).toEqual(['admitted', 'waiting', 'admitted']);
    end(newer);
    // 300 of the older, 500 of its own, 300 of the newer: that would have to go.
    expect(waits.state).toBe('waiting');
    end(older);
    expect(waits.state).toBe('admitted');
  });

  test('are refused once too much was received after them, also what waits no more', () => {
    const { image, receive, end } = start();
    const [older, between] = [image('a', 500), image('d', 200)];
    const [first, last] = [image('b', 400), image('c', 400)];
    receive(older, first, between, last);
    expect([first.state, last.state]).toEqual(['waiting', 'waiting']);
    end(between);
    expect([first.state, last.state]).toEqual(['waiting', 'admitted']);
    expect(image('e', 100).state).toBe('admitted');
    expect(first.state).toBe('refused');
  });
});
