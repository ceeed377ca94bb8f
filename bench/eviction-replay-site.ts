// A mirror in a process of its own, whose clock is set by whoever has started it. Used by bench/eviction-replay.ts.
import { startTestSite } from '../test/support/site.ts';

const [upstream = '', maxSize = ''] = process.argv.slice(2);
let nowMs = Date.now();
const site = await startTestSite({
  upstreams: { 'docker.io': { origin: upstream } },
  config: { cache: { maxSize, tagTtl: '1h' }, log: { level: 'warn' } },
  now: () => nowMs,
  keepsLog: false,
});
process.on('message', (message: { readonly nowMs: number }) => void (nowMs = message.nowMs));
process.once('disconnect', () => void site.stop().then(() => site[Symbol.asyncDispose]()));
process.send?.({ origin: site.origin, cacheDir: site.cacheDir });
