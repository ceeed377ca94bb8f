import type { Digest } from '../oci/digest.ts';

/** The subjects of events, and the type that each has as a CloudEvent. */
export const eventTypes = {
  /** A manifest of an upstream has come to this disk. */
  cached: 'dev.millpond.manifest.cached',
  /** A manifest has been pushed to a hosted repository that did not have it. */
  pushed: 'dev.millpond.manifest.pushed',
  /** A tag is new, or stands for another manifest than before. */
  tagged: 'dev.millpond.tag.moved',
  untagged: 'dev.millpond.tag.deleted',
  deleted: 'dev.millpond.manifest.deleted',
  evicted: 'dev.millpond.manifest.evicted',
  /** A manifest is held for a scanner. */
  quarantined: 'dev.millpond.manifest.quarantined',
  approved: 'dev.millpond.manifest.approved',
  rejected: 'dev.millpond.manifest.rejected',
  'upstream-down': 'dev.millpond.upstream.down',
  'upstream-up': 'dev.millpond.upstream.up',
} as const;

export type EventKind = keyof typeof eventTypes;

/** Something that has happened. */
export interface MillpondEvent {
  readonly kind: EventKind;
  /** By its full name, such as `docker.io/library/nginx`; absent for what concerns no repository. */
  readonly repository?: string | undefined;
  readonly digest?: Digest | undefined;
  readonly tag?: string | undefined;
  /** The previous digest of a tag. */
  readonly before?: Digest | undefined;
  readonly mediaType?: string | undefined;
  readonly artifactType?: string | undefined;
  /** Bytes of the manifest. */
  readonly size?: number | undefined;
  readonly subject?: Digest | undefined;
  readonly upstream?: string | undefined;
  /** One clause. */
  readonly reason?: string | undefined;
}

/** An event in the log. */
export interface LoggedEvent extends MillpondEvent {
  /** Grows by one from event to event. */
  readonly number: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** The JSON form of a CloudEvent (CloudEvents 1.0, "JSON Event Format"). @param log names the log that the event is in */
export function cloudEvent({ number, atMs, kind, ...data }: LoggedEvent, log: string): object {
  const { repository, tag, digest, upstream } = data;
  const name = tag === undefined ? (digest ?? '') : `${repository}:${tag}`;
  const subject = repository === undefined ? upstream : tag === undefined ? `${repository}@${name}` : name;
  return {
    specversion: '1.0',
    id: eventId(log, number),
    source: `/millpond/${log}`,
    type: eventTypes[kind],
    time: new Date(atMs).toISOString(),
    ...(subject !== undefined && { subject }),
    datacontenttype: 'application/json',
    data,
  };
}

/** Names an event among those of all logs. */
export function eventId(log: string, number: number): string {
  return `${log}-${number}`;
}

/** @returns the place of an event in a log; 0, the beginning, for one that it does not have, and for what is no id */
export function numberOf(id: string, log: { readonly id: string; readonly last: number }): number {
  const [, name, number] = /^([0-9a-f]+)-(\d{1,15})$/.exec(id) ?? [];
  return name === log.id && Number(number) <= log.last ? Number(number) : 0;
}
