// The body of a front thread: answers what is kept, and hands the rest to the main thread. Started by front/fronts.ts.
import { type AddressInfo, createServer, Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { FileSender } from '../front/file-sender.ts';
import { Generations } from '../front/generations.ts';
import { KeptAnswers } from '../front/kept-answers.ts';
import { Loads } from '../front/loads.ts';
import type { FromFront, FrontSettings, ToFront } from '../front/messages.ts';
import { moveAway } from '../front/moved-connection.ts';
import { OpenFiles } from '../front/open-files.ts';
import { RawConnections, type RawConnectionsOptions } from '../front/raw-connections.ts';
import { Reporter } from '../front/reporter.ts';
import { ShortWay } from '../front/short-way.ts';
import { systemCalls } from '../front/system-calls.ts';
import { Admission } from '../http/admission.ts';
import { roomsOf } from '../http/rooms.ts';
import { MemoryBudget } from '../memory/memory-budget.ts';
import { described } from './described.ts';

/** Files that stay open beside those that are being sent. */
const maxOpenFiles = 128;

async function run(settings: FrontSettings): Promise<void> {
  const calls = systemCalls();
  if (calls === undefined) throw new Error('a front thread needs node:ffi');
  const port = parentPort!;
  const tell = (message: FromFront): void => port.postMessage(message);
  let { limits } = settings;
  const generations = new Generations(settings.generations);
  const answers = new KeptAnswers({ generations, maxBytes: settings.keptBytes, now: Date.now });
  const files = new OpenFiles({ max: maxOpenFiles });
  const reporter = new Reporter({ send: (report) => tell({ kind: 'report', report }), described });
  const seat = new Loads(settings.loads).seat(settings.seat);
  const memoryLimit = {
    get memoryBytes() {
      return limits.memoryBytes;
    },
  };
  const memory = new MemoryBudget(memoryLimit, seat);
  const admission = new Admission({
    get limits() {
      return limits;
    },
    memory,
    seat,
    // The main thread has the request then, and refuses it where it finds no room either.
    onRefused: () => undefined,
  });
  const way = new ShortWay({
    answers,
    files,
    sender: new FileSender(settings.usesSendfile ? calls : undefined),
    rooms: roomsOf(admission),
    reading: () => ({ [Symbol.dispose]: () => undefined }),
    onServed: (served) => reporter.served(served),
    clientIdleMs: () => limits.clientIdleMs,
    now: Date.now,
  });
  const handOver: RawConnectionsOptions['handOver'] = (socket, unanswered) => {
    // Before the main thread counts it.
    admission.leaves(socket);
    const moved = moveAway(socket, { ...unanswered, calls });
    if (moved) tell({ kind: 'moved', moved });
  };
  const connections = new RawConnections({
    way,
    handOver,
  });
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const isRefused = admission.connected(socket) !== undefined;
    if (!isRefused) return connections.take(socket);
    handOver(socket, { bytes: Buffer.alloc(0), key: undefined });
  });
  port.on('message', (message: ToFront) => {
    switch (message.kind) {
      case 'limits':
        limits = message.limits;
        return;
      case 'keep':
        answers.set(message.key, message.answer);
        return;
      case 'back': {
        const socket = new Socket({ fd: message.fd, allowHalfOpen: true });
        admission.connected(socket);
        connections.take(socket, { isNew: false });
        return;
      }
      case 'close':
        server.close();
        connections.drain();
        setTimeout(() => connections.cut(), message.drainMs).unref();
        void untilEmpty(connections).then(() => {
          reporter[Symbol.dispose]();
          files[Symbol.dispose]();
          port.close();
        });
        return;
      default:
        message satisfies never;
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: settings.host, port: settings.port, reusePort: true }, resolve);
  });
  tell({ kind: 'listening', port: (server.address() as AddressInfo).port });
}

async function untilEmpty(connections: RawConnections): Promise<void> {
  while (connections.count > 0) await new Promise((resolve) => setTimeout(resolve, 20));
}

run(workerData as FrontSettings).catch((error: unknown) => {
  parentPort!.postMessage({ kind: 'failed', message: error instanceof Error ? error.message : String(error) });
});
