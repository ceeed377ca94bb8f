import { parentPort } from 'node:worker_threads';
import { type SmallFileAnswer, type SmallFileJob, syncJob } from './small-file-job.ts';
import { SmallFileWriter } from './small-file-writer.ts';

// The thread of SmallFiles, which has nothing else to do.

const writer = new SmallFileWriter();
const answer = (message: SmallFileAnswer): void => parentPort?.postMessage(message);

parentPort?.on('message', (job: SmallFileJob | typeof syncJob) => {
  if (job === syncJob) writer.sync(() => answer(syncJob));
  else answer(writer.write(job));
});
