import type { MillpondEvent } from '../events/event.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { HostedChange, HostedObserver } from '../hosted/changes.ts';
import type { CatalogNews } from '../store/catalog/news.ts';

/** Tells of changes of hosted repositories, and holds what is new. */
export function changeObserver(onEvent: (event: MillpondEvent) => void, holds: HoldStore): HostedObserver {
  return (change) => {
    const event = eventOfChange(change);
    if (event) onEvent(event);
    if (change.kind === 'pushed') holds.note(change.repository, change.digest);
  };
}

/** What a change of a hosted repository is to those who follow; a blob by itself is nothing to them. */
function eventOfChange(change: HostedChange): MillpondEvent | undefined {
  switch (change.kind) {
    case 'pushed': {
      const { tags: _tags, ...event } = change;
      return event;
    }
    case 'tagged':
    case 'untagged':
    case 'deleted':
      return change;
    case 'blob-deleted':
      return undefined;
    default:
      return change satisfies never;
  }
}

/** What is new in the catalog, to those who follow. */
export function eventOfNews(news: CatalogNews): MillpondEvent {
  switch (news.kind) {
    case 'manifest':
      return { ...news, kind: 'cached' };
    case 'tag':
      return { ...news, kind: 'tagged' };
    case 'tag gone':
      return { ...news, kind: 'untagged' };
    default:
      return news satisfies never;
  }
}
