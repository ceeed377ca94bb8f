import { isRecord, parseSecretJson } from '../answers.ts';
import { type ServiceAnswer, ServiceError } from '../service-client.ts';

/** The members of an answer that is JSON. @throws ServiceError with the status, and nothing of the text but a code */
export function fieldsOf({ status, text }: Pick<ServiceAnswer, 'status' | 'text'>): Readonly<Record<string, unknown>> {
  const fields = parsed(text);
  if (status === 200 && fields !== undefined) return fields;
  throw new ServiceError(status === 200 ? 'answered with something that is not JSON' : refusal(status, fields));
}

function parsed(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value = parseSecretJson(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The status of a refusal, with its code where it has one: Amazon's `__type`, or `error` of OAuth 2 (RFC 6749, 5.2). */
function refusal(status: number, fields: Readonly<Record<string, unknown>> = {}): string {
  const { __type: type, error } = fields;
  const [named] = [type, error].filter((value) => typeof value === 'string');
  const code = /(?:^|#)([A-Za-z][A-Za-z0-9_.]{0,60})$/.exec(named ?? '')?.[1];
  return `answered ${status}${code === undefined ? '' : ` ${code}`}`;
}

/** A member that is a text and not empty. @throws ServiceError */
export function textAt(fields: Readonly<Record<string, unknown>>, key: string): string {
  const value = fields[key];
  if (typeof value === 'string' && value !== '') return value;
  throw new ServiceError(`answered without ${key}`);
}

/** When something expires, from a lifetime in seconds (a number, or a text of digits). @throws ServiceError */
export function expiryAt(
  fields: Readonly<Record<string, unknown>>,
  { key, nowMs }: { key: string; nowMs: number },
): number {
  const seconds = Number(fields[key]);
  if (fields[key] !== undefined && Number.isFinite(seconds) && seconds > 0) return nowMs + seconds * 1000;
  throw new ServiceError(`answered without ${key}`);
}
