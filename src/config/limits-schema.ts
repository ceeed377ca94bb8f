import { z } from 'zod';
import { integer, size } from './value-kinds.ts';
import { value } from './value-schema.ts';

const count = value(integer(1, 1_000_000));
const memory = value(size({ minBytes: 1024 * 1024 }));

/** The walls between clients. */
export const limitsSchema = z.strictObject({
  connections: count
    .prefault(16_384)
    .describe(
      'Connections of clients open at a time; in force is at most half of the files that the process may open. Further ones are refused with 503, or closed.',
    ),
  requests: count
    .prefault(12_288)
    .describe('Requests of the registry API being answered at a time; further ones get 503.'),
  memory: memory
    .optional()
    .describe(
      'Bytes of memory for answers that wait for their clients, and for blobs, manifests and lists on their way; what goes past it gets 503. Default: `384MiB`, or three eighths of what the process may use where that is less.',
    ),
  perClient: z
    .strictObject({
      connections: count.optional().describe('`limits.connections` for one address. Default: three quarters of it.'),
      requests: count.optional().describe('`limits.requests` for one address. Default: three quarters of it.'),
      memory: memory.optional().describe('`limits.memory` for one address. Default: three quarters of it.'),
    })
    .prefault({})
    .describe(
      'What one client address may take: an IPv4 address, or the /64 of an IPv6 address. A load balancer or NAT is one address for all behind it; where each client has its own, lower values keep them further apart.',
    ),
});
