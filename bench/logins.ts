import { writeFile } from 'node:fs/promises';
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

const right: { status: number; ms: number }[] = [];
const first: { status: number; ms: number }[] = [];
const wrong = new Map<number, number>();
const waiting: Promise<void>[] = [];
await get(users[0]!, 'right', '127.0.0.1');
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
    `stalls of the event loop over 200 ms: ${(mirror.process.output.match(/event loop/g) ?? []).length}; readyz ${metrics}`,
    '',
  ].join('\n'),
);
agent.destroy();
