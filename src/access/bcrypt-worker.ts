import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import type { BcryptJob, BcryptResult } from './bcrypt-thread.ts';

// The thread of BcryptThread: it may be busy for as long as it takes.

parentPort?.on('message', ({ id, password, hash }: BcryptJob) => {
  parentPort?.postMessage({ id, isRight: compareSync(password, hash) } satisfies BcryptResult);
});
