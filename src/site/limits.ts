import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import type { Config } from '../config/config.ts';
import type { AdmissionLimits } from '../http/admission.ts';
import type { MemoryLimit } from '../memory/memory-budget.ts';

/** Memory for answers and blobs on their way where nothing is configured, in bytes. */
const defaultMemoryBytes = 384 * 1024 * 1024;
/** The part of what the process may use that it is at most then: the program itself and its sockets need the rest. */
const memoryShare = 3 / 8;
/** The part of everything that one client may take where nothing is configured: others always have some left. */
const clientShare = 3 / 4;

/** The limits that the system sets for this process. */
export interface ProcessMeans {
  readonly memoryBytes: number;
  /** Infinite if unknown. */
  readonly files: number;
}

/** Looks at the limits that the process has been given. */
export function processMeans(): ProcessMeans {
  const constrainedBytes = process.constrainedMemory();
  const memoryBytes = constrainedBytes > 0 ? Math.min(constrainedBytes, totalmem()) : totalmem();
  return { memoryBytes, files: maxFiles() };
}

function maxFiles(): number {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

/** The limits in effect: as configured, but no more than the process can bear. */
export function limitsInForce(config: Config['limits'], means: ProcessMeans): AdmissionLimits & MemoryLimit {
  const { requests, perClient } = config;
  // Each request may need a file and a connection to an upstream beside its own.
  const connections = Math.max(1, Math.min(config.connections, Math.floor(means.files / 2)));
  const memoryBytes = config.memoryBytes ?? Math.floor(Math.min(defaultMemoryBytes, means.memoryBytes * memoryShare));
  const share = (whole: number): number => Math.max(1, Math.floor(whole * clientShare));
  return {
    connections,
    requests,
    memoryBytes,
    connectionsPerClient: perClient.connections ?? share(connections),
    requestsPerClient: perClient.requests ?? share(requests),
    memoryPerClientBytes: perClient.memoryBytes ?? share(memoryBytes),
  };
}
