import type { RecordedExchange } from '../../../upstream/recorder.ts';

/** The result of one step; the members and their names are kept from version to version. */
export interface ProbeStep {
  readonly name: ProbeStepName;
  /** `skipped`: an earlier step has failed, or there is nothing to try it on. */
  readonly result: 'ok' | 'warning' | 'failed' | 'skipped';
  /** In words, without secrets. */
  readonly text: string;
  /** The advice: a line of the configuration, or something outside of it; `null`: none. */
  readonly advice: string | null;
  /** Requests of this step, in order. */
  readonly exchanges: readonly RecordedExchange[];
}

export type ProbeStepName =
  | 'names'
  | 'tls'
  | 'ping'
  | 'credential'
  | 'token'
  | 'head'
  | 'get'
  | 'digest'
  | 'type'
  | 'by digest'
  | 'blob head'
  | 'blob'
  | 'redirects'
  | 'ranges'
  | 'tags'
  | 'referrers'
  | 'limits'
  | 'behaviour';

/** The findings of a step. */
export type Finding = Pick<ProbeStep, 'result' | 'text'> & { readonly advice?: string | undefined };

export function ok(text: string): Finding {
  return { result: 'ok', text };
}

export function warning(text: string, advice?: string): Finding {
  return { result: 'warning', text, advice };
}

export function failed(text: string, advice?: string): Finding {
  return { result: 'failed', text, advice };
}
