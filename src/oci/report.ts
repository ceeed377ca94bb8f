/** Receives events, for the log and the metrics; it must not throw. */
export type Report<Event> = (event: Event) => void;
