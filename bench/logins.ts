import { readFile, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hashSync } from 'bcryptjs';
import { startMillpond } from '../test/support/millpond.ts';
import { startRegistry } from '../test/support/registry.ts';
import { temporaryDirectory } from '../test/support/temporary-directory.ts';

// Wrong passwords at a rate, and callers with the right one beside them: how long these wait, and the event loop.

const { values } = parseArgs({ options: { rate: { type: 'string' }, seconds: { type: 'string' } } });
const rate = Number(values.rate ?? '1000');
const seconds = Number(values.seconds ?? '10');

await using directory = await temporaryDirectory('logins');
await using registry = await startRegistry();
const blob = registry.addBlob({ size: 2_000, seed: 'one' });
const users = Array.from({ length: 20 }, (_, index) => `user-${index}`);
const htpasswdFile = join(directory.path, 'htpasswd');
await writeFile(htpasswdFile, users.map((user) => `${user}:${hashSync('right', 10)}\n`).join(''));
await using mirror = await startMillpond({
  auth: { htpasswdFile },
  upstreams: { 'registry.test': { urls: [registry.origin] } },
});
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const path = `/v2/registry.test/app/blobs/${blob.digest}`;

/** @param localAddress where the client is, since it is by its address that it has to wait */
function get(user: string, password: string, localAddress: string): Promise<{ status: number; ms: number }> {
  const startedMs = performance.now();
  const authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
  return new Promise((resolve, reject) => {
    const sent = request(
      new URL(path, mirror.origin),
      { agent, localAddress, headers: { authorization } },
      (response) => {
        response.resume().once('end', () => {
          resolve({ status: response.statusCode ?? 0, ms: performance.now() - startedMs });
        });
      },
    );
    sent.once('error', reject).end();
  });
}

/** Processor time of the mirror so far, of all its threads. */
async function cpuSeconds(): Promise<number> {
  const stat = await readFile(`/proc/${mirror.process.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  // In hundredths of a second (proc_pid_stat(5), utime and stime).
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/**
 * How long the main thread has run, and how long it was ready and had no processor, in milliseconds (scheduler statistics of
 * Linux): what it waited for is the machine's and not its own.
 */
async function mainThread(): Promise<{ ranMs: number; waitedMs: number }> {
  const { pid } = mirror.process;
  const [ran, waited] = (await readFile(`/proc/${pid}/task/${pid}/schedstat`, 'utf8')).split(' ').map(Number);
  return { ranMs: (ran ?? 0) / 1e6, waitedMs: (waited ?? 0) / 1e6 };
}

const right: { status: number; ms: number }[] = [];
const first: { status: number; ms: number }[] = [];
const wrong = new Map<number, number>();
const waiting: Promise<void>[] = [];
await get(users[0]!, 'right', '127.0.0.1');
const cpuBefore = await cpuSeconds();
const threadBefore = await mainThread();
const startedMs = performance.now();
let sent = 0;
let asked = 0;
let newcomers = 1;
while (performance.now() - startedMs < seconds * 1000) {
  const elapsed = (performance.now() - startedMs) / 1000;
  for (; sent < elapsed * rate; sent += 1) {
    const one = get(users[sent % users.length]!, `wrong ${sent}`, '127.0.0.2').then(({ status }) => {
      wrong.set(status, (wrong.get(status) ?? 0) + 1);
    });
    waiting.push(one);
  }
  for (; asked < elapsed * 50; asked += 1) {
    waiting.push(get(users[0]!, 'right', '127.0.0.1').then((answer) => void right.push(answer)));
  }
  if (newcomers < users.length && newcomers < elapsed * 2) {
    waiting.push(get(users[newcomers]!, 'right', '127.0.0.3').then((answer) => void first.push(answer)));
    newcomers += 1;
  }
  await new Promise((resolve) => setTimeout(resolve, 2));
}
await Promise.all(waiting);
const cpu = (await cpuSeconds()) - cpuBefore;
const threadAfter = await mainThread();
const ranSeconds = (threadAfter.ranMs - threadBefore.ranMs) / 1000;
const waitedSeconds = (threadAfter.waitedMs - threadBefore.waitedMs) / 1000;
const elapsedSeconds = (performance.now() - startedMs) / 1000;
const shown = (answers: readonly { status: number; ms: number }[]): string => {
  const times = answers.map(({ ms }) => ms).toSorted((one, other) => one - other);
  const at = (share: number): string =>
    `${(times[Math.floor(times.length * share)] ?? times.at(-1) ?? 0).toFixed(1)} ms`;
  const failed = answers.filter(({ status }) => status !== 200).length;
  return `${answers.length} requests, ${failed} refused, median ${at(0.5)}, p99 ${at(0.99)}`;
};
const metrics = await new Promise<string>((resolve, reject) => {
  request(new URL('/readyz', mirror.origin), (response) => {
    response.resume();
    resolve(String(response.statusCode));
  })
    .once('error', reject)
    .end();
});
process.stdout.write(
  [
    `wrong passwords: ${sent} in ${seconds} s, answered ${[...wrong].map(([status, count]) => `${count} × ${status}`).join(', ')}`,
    `right, remembered: ${shown(right)}`,
    `right, for the first time: ${shown(first)}`,
    `processor: ${cpu.toFixed(1)} s in ${elapsedSeconds.toFixed(1)} s, ${((cpu / Math.max(1, sent)) * 1000).toFixed(2)} ms a wrong password`,
    `main thread: ran ${ranSeconds.toFixed(1)} s, and waited ${waitedSeconds.toFixed(1)} s for a processor`,
    `stalls of the event loop over 200 ms: ${(mirror.process.output.match(/event loop/g) ?? []).length}; readyz ${metrics}`,
    '',
  ].join('\n'),
);
agent.destroy();
