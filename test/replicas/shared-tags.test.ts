import { expect, test } from 'vitest';
import type { MessageListener } from '../../src/coordination/coordinator.ts';
import { SoloCoordinator } from '../../src/coordination/solo.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { SharedTags } from '../../src/replicas/shared-tags.ts';

const key = { repository: 'docker.io/library/app', tag: '1', variant: '' };
const record = { digest: digestOf(Buffer.from('then')), contentType: 'a/b', size: 4, checkedAtMs: 1_000 };

/** Delivers the messages of the test. */
class Telling extends SoloCoordinator {
  readonly listeners: MessageListener[] = [];
  override subscribe(listener?: MessageListener): Disposable {
    if (listener) this.listeners.push(listener);
    return { [Symbol.dispose]: () => undefined };
  }
}

test.each([false, true])(
  'what others have said, or may have, puts a recorded tag in doubt where it can be asked about (offline: %s)',
  (offline) => {
    const coordinator = new Telling();
    using tags = new SharedTags({ coordinator, offline, now: () => 2_000 });
    const verdict = (): string => tags.judge(key, record, { kind: 'fresh' }).kind;
    expect(verdict()).toBe('fresh');
    const [listener] = coordinator.listeners;
    const digest = digestOf(Buffer.from('now'));
    listener!.received({ kind: 'tag', ...key, digest }, { from: 'another', ageMs: 0 });
    expect(verdict()).toBe(offline ? 'fresh' : 'stale');
    listener!.missed({ changes: false });
    expect([verdict(), tags.isTrusted(key, record)]).toEqual(offline ? ['fresh', true] : ['stale', false]);
  },
);
