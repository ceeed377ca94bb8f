import type { OperationContext } from '../operations/protocol/operation.ts';
import type { Operations } from '../operations/protocol/operations.ts';

/** All of them, held complete by the type. */
const names: Readonly<Record<keyof Operations, true>> = {
  fetch: true,
  exportImages: true,
  exportHold: true,
  importNames: true,
  importHold: true,
  importRoom: true,
  importBlob: true,
  importDelivered: true,
  importImages: true,
  list: true,
  remove: true,
  pin: true,
  unpin: true,
  keyCreate: true,
  keyList: true,
  keyRemove: true,
  search: true,
  decide: true,
  listHeld: true,
  verify: true,
};

/** Operations whose code is loaded with the first use of one: a mirror starts without it. */
export function lazyOperations(load: () => Promise<Operations>): Operations {
  const lazy = (name: keyof Operations) =>
    async function* (parameters: never, context: OperationContext): AsyncGenerator {
      const operations = await load();
      yield* operations[name](parameters, context);
    };
  return Object.fromEntries(Object.keys(names).map((name) => [name, lazy(name as keyof Operations)])) as never;
}
