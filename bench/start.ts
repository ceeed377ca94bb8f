import { mkdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { millpondProgram, startMillpond } from './contestants.ts';
import { freePort, Program, serverCore } from './program.ts';
import { atMost, type Row, type RowOptions, type RowResult } from './row.ts';
import { setStage } from './stage.ts';
import { median } from './statistics.ts';

const work = 'start to the first answer, and memory at rest';
/** At rest: what was only needed for the start has been given back. */
const restMs = 2_500;

interface Start {
  readonly ms: number;
  readonly cpuMs: number;
  readonly restMegabytes: number;
}

/** A cache that is there already, and code that an earlier start has compiled: how a mirror starts again. */
export const startRow: Row = { name: 'start', work, measure };

async function measure(options: RowOptions): Promise<RowResult> {
  await using stack = new AsyncDisposableStack();
  const stage = await setStage(stack, options, { contestants: [] });
  const directory = join(stage.directory, 'start');
  await mkdir(directory);
  const first = await startMillpond({ directory, upstreamOrigin: stage.upstream.origin, profileDirectory: undefined });
  await first.program?.[Symbol.asyncDispose]();
  const starts: Start[] = [];
  for (let repetition = 0; repetition < Math.max(5, options.repetitions); repetition++)
    starts.push(await start(directory));
  const of = (value: (each: Start) => number) => median(starts.map(value));
  const values = {
    'first answer ms': of(({ ms }) => ms),
    'CPU ms': of(({ cpuMs }) => cpuMs),
    'MB at rest': of(({ restMegabytes }) => restMegabytes),
  };
  return {
    name: 'start',
    work,
    repetitions: starts.length,
    figures: [{ contestant: 'millpond', values }],
    checks: [
      atMost('start to first answer in ms', values['first answer ms'], 350, `CPU ${values['CPU ms']} ms`),
      atMost('MB at rest', values['MB at rest'], 115),
    ],
  };
}

async function start(directory: string): Promise<Start> {
  const port = await freePort();
  const begunMs = performance.now();
  await using program = new Program(millpondProgram, {
    args: ['serve', '--config', join(directory, 'millpond.yaml'), '--listen', `127.0.0.1:${port}`],
    core: serverCore,
    logFile: join(directory, 'start.log'),
  });
  while (!(await answers(port))) {
    if (program.hasEnded) throw new Error(`it does not start: ${await readFile(join(directory, 'start.log'), 'utf8')}`);
    await delay(2);
  }
  const ms = performance.now() - begunMs;
  const cpuMs = program.cpuSeconds() * 1000;
  await delay(restMs);
  return { ms, cpuMs, restMegabytes: program.memoryBytes() / 1e6 };
}

/** Whether something answers there; a bare socket, which costs the measured start least. */
function answers(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(port, '127.0.0.1', () => {
    socket.write('GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n');
  });
  socket.once('data', () => {
    socket.destroy();
    resolve(true);
  });
  socket.once('error', () => resolve(false));
  socket.once('close', () => resolve(false));
  return promise;
}
