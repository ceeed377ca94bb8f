import type { KeyRecord, KeyStore } from '../../../access/key-store.ts';
import type { Operations } from '../../protocol/operations.ts';

/** Receives each change. */
/** The operations on API keys. */
export function keyOperations(
  keys: KeyStore,
  onChange: (change: 'key created' | 'key removed', key: Pick<KeyRecord, 'id' | 'name'>) => void,
): Pick<Operations, 'keyCreate' | 'keyList' | 'keyRemove'> {
  return {
    async *keyCreate(parameters) {
      const made = await keys.create(parameters);
      onChange('key created', made);
      yield made;
    },
    async *keyList() {
      await keys.load();
      yield* keys.list();
    },
    async *keyRemove({ keys: wanted }) {
      for (const which of wanted) {
        const removed = await keys.remove(which);
        if (removed.length === 0) throw new Error(`there is no key ${which}`);
        for (const key of removed) onChange('key removed', key);
        yield* removed;
      }
    },
  };
}
