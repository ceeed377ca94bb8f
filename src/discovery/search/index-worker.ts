import { parentPort, workerData } from 'node:worker_threads';
import type { IndexChange } from './entry.ts';
import { IndexFile } from './index-file.ts';
import type { IndexQuestion, IndexQuestions, IndexReply, IndexRequest } from './index-messages.ts';
import { IndexReader } from './index-reader.ts';
import { IndexWriter } from './index-writer.ts';

// The thread of the search index: answers one question after another.
const file = new IndexFile((workerData as { readonly path: string }).path);
const writer = new IndexWriter(file, Date.now);
const reader = new IndexReader(file);

const answers: {
  readonly [Kind in IndexQuestion]: (asked: IndexQuestions[Kind]['asked']) => IndexQuestions[Kind]['answer'];
} = {
  apply(changes: readonly IndexChange[]) {
    writer.apply(changes);
    return null;
  },
  beginPass() {
    writer.beginPass();
    return null;
  },
  endPass: (limit) => writer.endPass(limit),
  search: ({ query, excluded }) => reader.search(query, excluded),
  named: ({ repository, digest }) => reader.named(repository, digest),
  close() {
    file[Symbol.dispose]();
    parentPort?.close();
    return null;
  },
};

parentPort?.on('message', ({ id, kind, asked }: IndexRequest) => {
  let reply: IndexReply;
  try {
    reply = { id, answer: answers[kind](asked as never) };
  } catch (error) {
    reply = { id, error: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage(reply);
});
