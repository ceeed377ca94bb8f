import { RegistryError } from '../oci/error.ts';
import type { Overload } from './admission.ts';

const sentences: Record<Overload, string> = {
  connections: 'this mirror has as many connections as it may have (limits.connections)',
  client_connections: 'this client address has as many connections as it may have (limits.perClient.connections)',
  requests: 'this mirror answers as many requests as it may (limits.requests)',
  client_requests: 'this mirror answers as many requests of this client address as it may (limits.perClient.requests)',
  memory: 'the memory for answers is used up (limits.memory)',
  client_memory: 'the memory for answers to this client address is used up (limits.perClient.memory)',
  pipelining: 'too many requests were sent ahead on one connection',
};

/** How long a client should wait, in seconds. */
const retryAfterSeconds = 5;

/**
 * The answer to a client that is refused because something is used up. The status is 503, not 429: on a 429 containerd asks
 * the mirror again and again, and containers/image waits for up to a minute, where both could go to the registry at once.
 */
export function overloadError(reason: Overload): RegistryError {
  return new RegistryError('overloaded', `${sentences[reason]}; try again later`, {
    headers: { 'Retry-After': String(retryAfterSeconds) },
  });
}
