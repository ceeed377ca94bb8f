import { Cron } from 'croner';
import { describeFound, ValueError, type ValueKind } from './value-kinds.ts';

/** When something is to be done again and again. */
export type Schedule =
  | { readonly kind: 'cron'; readonly expression: string }
  /** From one beginning to the next. */
  | { readonly kind: 'every'; readonly everyMs: number };

/** A cron expression of five or six fields (with seconds), in the time zone of the process. */
export const cronExpression: ValueKind<string> = {
  jsonSchema: { type: 'string', minLength: 1 },
  parse(found) {
    try {
      if (typeof found === 'string' && new Cron(found, { paused: true }).nextRun() !== null) return found;
    } catch {
      // The caller reports the problem in words of our own.
    }
    throw new ValueError(
      `found ${describeFound(found)}; accepted: a cron expression that comes again, such as "0 3 * * *" (every night at 3)`,
    );
  },
};

/** The schedule of an entry of `prefetch`, which has one of the two. */
export function scheduleOf({
  schedule,
  everyMs,
}: {
  schedule?: string | undefined;
  everyMs?: number | undefined;
}): Schedule {
  return schedule === undefined ? { kind: 'every', everyMs: everyMs! } : { kind: 'cron', expression: schedule };
}

/**
 * The next time after a moment, both in milliseconds since 1970.
 * @returns infinity if there are no more
 */
export function nextTime(schedule: Schedule, afterMs: number): number {
  if (schedule.kind === 'every') return afterMs + schedule.everyMs;
  const next = new Cron(schedule.expression, { paused: true }).nextRun(new Date(afterMs));
  return next?.getTime() ?? Number.POSITIVE_INFINITY;
}
