import { once } from 'node:events';
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { runOnControl } from '../../src/cli/control-client.ts';
import { createControlApp } from '../../src/http/control-app.ts';
import { openControlSocket } from '../../src/http/control-socket.ts';
import type { OperationContext, OperationTable } from '../../src/operations/protocol/operation.ts';
import { temporaryFolder } from '../support/site.ts';

/** Something that listens where a mirror would, and can do these things. */
async function withOperations(operations: OperationTable) {
  await using owned = new AsyncDisposableStack();
  const folder = owned.use(await temporaryFolder());
  const errors: unknown[] = [];
  const app = createControlApp({
    status: () => Promise.resolve({}),
    explain: () => Promise.resolve({}),
    operations,
    onOperationError: (operation, error) => errors.push([operation, String(error)]),
    onError: (error) => errors.push(error),
  });
  const answer = app.callback();
  owned.use(
    await openControlSocket(`${folder.path}/control.sock`, (request, response) => void answer(request, response)),
  );
  const rest = owned.move();
  return { dir: folder.path, errors, [Symbol.asyncDispose]: () => rest.disposeAsync() };
}

const nothing: OperationContext['input'] = {
  [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve({ done: true, value: undefined }) }),
};
const context = (input = nothing): OperationContext => ({ signal: new AbortController().signal, input });

async function all(events: AsyncIterable<unknown>): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const event of events) found.push(event);
  return found;
}

describe('an operation over the control socket', () => {
  test('has its parameters, what is sent along, and gives its events in order', async () => {
    await using mirror = await withOperations({
      async *echo(parameters: unknown, { input }: OperationContext) {
        yield parameters;
        yield (await text(input as never)).length;
      },
    });
    async function* megabytes() {
      for (let count = 0; count < 40; count += 1) yield Buffer.alloc(100_000, 'x');
    }
    const parameters = { text: 'line\nbreak', list: [1, 2] };
    expect(await all(runOnControl(mirror.dir, 'echo', parameters, context(megabytes())))).toEqual([
      parameters,
      4_000_000,
    ]);
    expect(await all(runOnControl(mirror.dir, 'echo', {}, context()))).toEqual([{}, 0]);
    expect(mirror.errors).toEqual([]);
  });

  test('that fails says so in its own sentence, even when it has not read what is sent along', async () => {
    await using mirror = await withOperations({
      // oxlint-disable-next-line require-yield
      async *refuse() {
        throw new Error('this archive is not one');
      },
    });
    async function* endless() {
      while (true) yield Buffer.alloc(64 * 1024);
    }
    await expect(all(runOnControl(mirror.dir, 'refuse', {}, context(endless())))).rejects.toThrow(
      'this archive is not one',
    );
    expect(mirror.errors).toEqual([['refuse', 'Error: this archive is not one']]);
    await expect(all(runOnControl(mirror.dir, 'constructor', {}, context()))).rejects.toThrow(
      'does not know that question',
    );
  });

  test('that has read a part of what is sent along still gives its answer, each time', async () => {
    await using mirror = await withOperations({
      async *first(_: unknown, { input }: OperationContext) {
        for await (const chunk of input) {
          yield chunk.length > 0;
          break;
        }
        throw new Error('that is enough');
      },
      async *nothing() {
        yield 1;
      },
    });
    async function* some() {
      for (let count = 0; count < 100; count += 1) yield Buffer.alloc(64 * 1024);
    }
    for (let time = 0; time < 30; time += 1) {
      await expect(all(runOnControl(mirror.dir, 'first', {}, context(some())))).rejects.toThrow('that is enough');
      expect(await all(runOnControl(mirror.dir, 'nothing', {}, context(some())))).toEqual([1]);
      expect(await all(runOnControl(mirror.dir, 'nothing', {}, context()))).toEqual([1]);
    }
  });

  test('ends when its client leaves', async () => {
    const ended = Promise.withResolvers<void>();
    await using mirror = await withOperations({
      async *wait(_: unknown, { signal }: OperationContext) {
        yield 'begun';
        await once(signal, 'abort');
        ended.resolve();
      },
    });
    for await (const event of runOnControl(mirror.dir, 'wait', {}, context())) {
      expect(event).toBe('begun');
      break;
    }
    await ended.promise;
    const stop = new AbortController();
    const events = runOnControl(mirror.dir, 'wait', {}, { ...context(), signal: stop.signal });
    expect((await events.next()).value).toBe('begun');
    stop.abort(new Error('interrupted'));
    await expect(events.next()).rejects.toThrow('interrupted');
    await mirror[Symbol.asyncDispose]();
    expect(mirror.errors).toEqual([]);
  });

  test('that is cut off in the middle is no success', async () => {
    await using folder = await temporaryFolder();
    const server = createServer((request, response) => {
      request.resume();
      response.write('{"event":1}\n', () => response.end());
    }).listen(`${folder.path}/control.sock`);
    await once(server, 'listening');
    await using _ = { [Symbol.asyncDispose]: async () => void (await once(server.close(), 'close')) };
    await expect(all(runOnControl(folder.path, 'any', {}, context()))).rejects.toThrow('gone away in the middle');
  });
});
