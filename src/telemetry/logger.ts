import pino, { type Logger } from 'pino';
import { LogOutput } from './log-output.ts';

export type { Logger };

export interface LoggerOptions {
  readonly level: string;
  readonly format: 'json' | 'text';
}

type RequestLevel = 'info' | 'warn' | 'error';

/** Writes the line of one request. */
export interface RequestLog {
  /** @param fields not empty; what is undefined in it is left out */
  (level: RequestLevel, fields: Readonly<Record<string, unknown>>): void;
  /** The same with fields that are JSON already: members of an object, without its braces. */
  readonly line?: (level: RequestLevel, members: string) => void;
}

export type ProgramLogger = Logger & {
  /** As `logger[level](fields, 'request')`, at a fraction of its cost: it is done for every request. */
  readonly requestLog: RequestLog;
  /** Begins to write what waits. */
  readonly flush: () => void;
  /** How many lines could not be written so far. */
  readonly lostLines: () => number;
};

/**
 * A logger on standard output. Lines are written in batches, at the latest after a second and when the process ends.
 * Callers pass named fields of a request only, never headers or a whole URL: those contain secrets.
 */
export function createLogger(options: LoggerOptions): ProgramLogger {
  const tellOfLoss = (lines: number) => logger.warn({ lines }, 'lines of the log could not be written and are lost');
  const output = new LogOutput({ format: options.format, onRecovery: tellOfLoss });
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: isoTime(),
      formatters: { level: (level) => ({ level }) },
    },
    output,
  );
  const time = isoTime();
  const line = (level: RequestLevel, members: string): void => {
    if (logger.isLevelEnabled(level)) output.write(`{"level":"${level}"${time()},${members},"msg":"request"}\n`);
  };
  const write = (level: RequestLevel, fields: Readonly<Record<string, unknown>>): void => {
    if (logger.isLevelEnabled(level)) line(level, JSON.stringify(fields).slice(1, -1));
  };
  const requestLog: RequestLog = Object.assign(write, { line });
  return Object.assign(logger, { requestLog, flush: () => output.flush(), lostLines: () => output.lost });
}

/** The `time` of a line; many lines share a millisecond. */
function isoTime(): () => string {
  let last = 0;
  let text = '';
  return () => {
    const now = Date.now();
    if (now !== last) {
      last = now;
      text = `,"time":"${new Date(now).toISOString()}"`;
    }
    return text;
  };
}
