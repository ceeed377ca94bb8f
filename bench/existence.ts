import { writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hashSync } from 'bcryptjs';
import { get } from '../test/support/client.ts';
import { startMillpond } from '../test/support/millpond.ts';
import { startRegistry } from '../test/support/registry.ts';
import { temporaryDirectory } from '../test/support/temporary-directory.ts';

// Whether the time of a refusal tells a caller without rights what is stored, what is elsewhere and what does not exist.

const { values } = parseArgs({ options: { requests: { type: 'string' } } });
const requests = Number(values.requests ?? '3000');

await using directory = await temporaryDirectory('existence');
await using registry = await startRegistry();
const [stored, elsewhere] = ['stored', 'elsewhere'].map((tag) => registry.addImage('ann/app', tag, { layers: [tag] }));
const htpasswdFile = join(directory.path, 'htpasswd');
await writeFile(htpasswdFile, ['ann', 'bob'].map((user) => `${user}:${hashSync('right', 4)}\n`).join(''));
await using mirror = await startMillpond({
  auth: { htpasswdFile, policies: [{ users: ['ann'], repositories: ['registry.test/ann/**'] }] },
  upstreams: { 'registry.test': { urls: [registry.origin] } },
});
const agent = new Agent({ keepAlive: true });
const ask = async (user: string, digest: string): Promise<{ status: number; us: number }> => {
  const authorization = `Basic ${Buffer.from(`${user}:right`).toString('base64')}`;
  const startedMs = performance.now();
  const { status } = await get(`${mirror.origin}/v2/registry.test/ann/app/manifests/${digest}`, {
    agent,
    headers: { authorization },
  });
  return { status, us: (performance.now() - startedMs) * 1000 };
};
await ask('ann', stored!.digest);
const kinds = { stored: stored!.digest, elsewhere: elsewhere!.digest, absent: `sha256:${'1'.repeat(64)}` };
const times: Record<string, number[]> = { stored: [], elsewhere: [], absent: [] };
for (let count = 0; count < requests; count += 1) {
  // In turns, so that what else the machine does meets all kinds alike.
  for (const [kind, digest] of Object.entries(kinds)) {
    const { status, us } = await ask('bob', digest);
    if (status !== 403) throw new Error(`the answer was ${status}`);
    if (count > requests / 10) times[kind]!.push(us);
  }
}
for (const [kind, all] of Object.entries(times)) {
  const sorted = all.toSorted((one, other) => one - other);
  const at = (share: number): string => `${(sorted[Math.floor(sorted.length * share)] ?? 0).toFixed(0)} µs`;
  process.stdout.write(`${kind}: 403 ${sorted.length} times, quartiles ${at(0.25)}, ${at(0.5)}, ${at(0.75)}\n`);
}
agent.destroy();
