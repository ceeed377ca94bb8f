import type { MillpondEvent } from '../events/event.ts';
import type { HoldStore } from '../holds/hold-store.ts';
import type { HostedChange } from '../hosted/changes.ts';
import type { Report } from '../oci/report.ts';
import type { CatalogNews } from '../store/catalog/news.ts';

/** Turns changes of hosted repositories into events, and holds new manifests for scanners. */
export function changeReport(onEvent: (event: MillpondEvent) => void, holds: HoldStore): Report<HostedChange> {
  return (change) => {
    const event = eventOfChange(change);
    if (event) onEvent(event);
    if (change.kind === 'pushed') holds.note(change.repository, change.digest);
  };
}

/** The event for a change of a hosted repository; a blob by itself has none. */
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

/** The event for what is new in the catalog. */
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
