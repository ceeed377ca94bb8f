import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { startTestSite } from '../support/site.ts';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is in use when all that can go has gone. */
function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test('five thousand requests with 8 KiB of address each leave nothing of that behind', async () => {
  const upstreams = { 'docker.io': { origin: 'http://127.0.0.1:9' } };
  await using site = await startTestSite({ upstreams, keepsLog: false });
  const long = 'x'.repeat(8 * 1024);
  const ask = async (from: number, to: number): Promise<void> => {
    for (let number = from; number < to; number += 50) {
      const some = Array.from({ length: 50 }, (_, index) => `/v2/?n=${number + index}&x=${long}`);
      const replies = await Promise.all(some.map((path) => site.get(path)));
      expect(replies.map(({ status }) => status)).toEqual(some.map(() => 200));
    }
  };
  await ask(0, 200);
  const before = heapBytes();
  await ask(200, 5_200);
  expect((heapBytes() - before) / 2 ** 20).toBeLessThan(20);
});
