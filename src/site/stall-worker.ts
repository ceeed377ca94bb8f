import { type Debugger, type InspectorNotification, Session } from 'node:inspector';
import { parentPort, workerData } from 'node:worker_threads';
import { type StallWatch, stallMs } from './stall-watch.ts';

// The thread of an EventLoop. It sees that the main thread does not beat any more, and looks once what it is doing: the
// debugger of V8 stops it wherever it is, for as long as it takes to read the stack.

/** How often it is looked, in milliseconds. */
const lookEveryMs = 50;
const mostFrames = 10;
/** To look costs tens of milliseconds of the main thread: time between two looks, in milliseconds. */
const pauseMs = 6_000;

watch(workerData as StallWatch);

function watch({ beats, root }: StallWatch): void {
  let last = -1;
  let sinceMs = performance.now();
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let hasLooked = false;
  setInterval(() => {
    const now = Atomics.load(beats, 0);
    if (now !== last) {
      last = now;
      sinceMs = performance.now();
      hasLooked = false;
      return;
    }
    const nowMs = performance.now();
    if (hasLooked || nowMs - sinceMs < stallMs) return;
    hasLooked = true;
    if (nowMs - lookedAtMs < pauseMs) return;
    lookedAtMs = nowMs;
    look(root);
  }, lookEveryMs);
}

function look(root: string): void {
  const session = new Session();
  session.connectToMainThread();
  const files = new Map<string, string>();
  session.on('Debugger.scriptParsed', ({ params }: InspectorNotification<Debugger.ScriptParsedEventDataType>) => {
    files.set(params.scriptId, params.url);
  });
  session.once('Debugger.paused', ({ params }: InspectorNotification<Debugger.PausedEventDataType>) => {
    session.post('Debugger.resume');
    session.post('Debugger.disable', () => session.disconnect());
    parentPort?.postMessage(
      params.callFrames.slice(0, mostFrames).map(({ functionName, location }) => {
        const file = (files.get(location.scriptId) ?? '').replace(root, '');
        return `${functionName || '(anonymous)'} ${file}:${location.lineNumber + 1}`;
      }),
    );
  });
  session.post('Debugger.enable');
  session.post('Debugger.pause');
}
