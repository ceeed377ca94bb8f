import { Admission } from '../../src/http/admission.ts';
import type { ListenOptions } from '../../src/http/server.ts';
import { MemoryBudget } from '../../src/memory/memory-budget.ts';

/** The parts of a listener that refuses no client. */
export function unlimited(): Pick<ListenOptions, 'admission' | 'onMalformed'> {
  const limits = {
    connections: 1_000,
    connectionsPerClient: 1_000,
    requests: 1_000,
    requestsPerClient: 1_000,
    memoryPerClientBytes: 2 ** 30,
  };
  const memory = new MemoryBudget({ memoryBytes: 2 ** 30 });
  return { admission: new Admission({ limits, memory, onRefused: () => undefined }), onMalformed: () => undefined };
}
