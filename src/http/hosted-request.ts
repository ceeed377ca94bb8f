import type { Context } from 'koa';
import type { HostedRegistry } from '../hosted/hosted-registry.ts';
import { RegistryError } from '../oci/error.ts';
import type { Exchange } from './exchange.ts';
import type { HoldGate } from './hold-gate.ts';
import type { Rights } from './rights.ts';
import type { Sender } from './send.ts';

export interface HostedParts {
  readonly hosted: HostedRegistry;
  readonly sender: Sender;
  readonly rights: Rights;
  readonly gate: HoldGate;
  /** A client that sends nothing of its body for so long is cut, in milliseconds; read each time. */
  readonly clientIdleMs: number;
}

/** A request of a hosted repository. */
export interface HostedRequest extends HostedParts {
  readonly ctx: Context;
  readonly exchange: Exchange;
  readonly repository: string;
}

/** @param offered for `Allow` */
export function notOffered(method: string, offered: string): RegistryError {
  return new RegistryError('read-only', `${method} is not offered here`, { headers: { Allow: offered } });
}
