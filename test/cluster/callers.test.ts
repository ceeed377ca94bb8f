import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { runOnControl } from '../../src/cli/control-client.ts';
import { noInput } from '../../src/operations/protocol/operation.ts';
import { basic, bearer, htpasswdFile, tokenOf } from '../access/support.ts';
import { get } from '../support/client.ts';
import { startRegistry } from '../support/registry.ts';
import type { TestSite } from '../support/site.ts';
import { startTap } from '../support/tap.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';
import { clusterSecret, startFleet } from './support.ts';

/** Each secret that can be configured or shown, with a text that is nowhere else. */
const secrets = {
  ann: 'canary-of-ann-4b1d',
  bob: 'canary-of-bob-77aa',
  wrong: 'canary-wrong-90f3',
  upstream: 'canary-upstream-c2e8',
};

/** Everything that the command would do to a key, over the control socket. */
async function createKey(site: TestSite): Promise<string> {
  const parameters = { name: 'robot', repositories: ['registry.test/ann/**'], actions: ['pull'] };
  const context = { signal: AbortSignal.timeout(180_000), input: noInput() };
  for await (const event of runOnControl(site.cacheDir, 'keyCreate', parameters, context)) {
    return (event as { key: string }).key;
  }
  throw new Error('no key was made');
}

/** All that Redis holds. */
async function contentsOf(url: string): Promise<string> {
  const redis = new Redis(url);
  try {
    const found: string[] = [];
    for (const key of await redis.keys('*')) found.push(key, (await redis.dumpBuffer(key))?.toString('latin1') ?? '');
    return found.join('\n');
  } finally {
    redis.disconnect();
  }
}

/** The content of every file below a folder, but for the key of tokens, which is a secret that belongs there. */
async function filesBelow(folder: string): Promise<string> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((one) => one.isFile() && one.name !== 'tokens.key');
  const texts = await Promise.all(files.map((one) => readFile(join(one.parentPath, one.name), 'latin1')));
  return texts.join('\n');
}

describeWith(['redis-server'], 'replicas with callers', () => {
  test('serve a caller from one another, give nothing to others, and show no secret anywhere', async () => {
    await using folder = await temporaryDirectory('callers');
    await using registry = await startRegistry({ basic: { username: 'mirror', password: secrets.upstream } });
    const blob = registry.addBlob({ size: 100_000, seed: 'of ann' });
    const file = await htpasswdFile(folder.path, { ann: secrets.ann, bob: secrets.bob });
    const auth = {
      htpasswdFile: file,
      anonymous: true,
      keysFile: join(folder.path, 'keys.json'),
      policies: [
        // The test itself reads the metrics.
        { anonymous: true, actions: ['administer'] },
        { users: ['ann', 'robot'], repositories: ['registry.test/ann/**'] },
      ],
    };
    const ports: number[] = [];
    await using taps = new AsyncDisposableStack();
    const between = [taps.use(await startTap(() => ports[0])), taps.use(await startTap(() => ports[1]))];
    await using fleet = await startFleet({
      replicas: 2,
      advertise: (index) => between[index]!.origin,
      upstreams: {
        'registry.test': { urls: [registry.origin], auth: { username: 'mirror', password: secrets.upstream } },
      },
      config: { auth },
    });
    const [one, two] = fleet.sites as [TestSite, TestSite];
    ports.push(...[one, two].map(({ origin }) => Number(new URL(origin).port)));
    const path = `/v2/registry.test/ann/app/blobs/${blob.digest}`;
    const ann = basic('ann', secrets.ann);
    expect(await one.get(path, { headers: ann })).toMatchObject({ status: 200, sha256: blob.digest });
    // The token of one replica opens the other one, which has the bytes from the first.
    const token = bearer(await tokenOf(one, 'repository:registry.test/ann/app:pull', ann));
    const before = registry.requests.filter(({ method, digest }) => method === 'GET' && digest === blob.digest).length;
    expect(await two.get(path, { headers: token })).toMatchObject({ status: 200, sha256: blob.digest });
    const after = registry.requests.filter(({ method, digest }) => method === 'GET' && digest === blob.digest).length;
    expect(after).toBe(before);

    const key = await createKey(one);
    await expect.poll(async () => (await two.get(path, { headers: basic('x', key) })).status).toBe(200);

    const answers: string[] = [];
    const forged = encodeURIComponent(
      JSON.stringify({ caller: { kind: 'user', name: 'ann', groups: [], claims: {} } }),
    );
    for (const site of fleet.sites) {
      const headers = basic('bob', secrets.bob);
      const tries = [
        await site.get(path, { headers }),
        await site.get(path, { headers: { ...headers, range: 'bytes=0-9' } }),
        await site.get(path, { method: 'HEAD', headers }),
        await site.get(path, { headers: { ...headers, 'if-none-match': `"${blob.digest}"` } }),
        await site.get(path, { headers: { ...headers, 'millpond-pass': 'x', 'millpond-caller': forged } }),
        await site.get(path, { headers: { 'millpond-pass': 'x', 'millpond-caller': forged } }),
        await site.get(path, { headers: { 'millpond-caller': forged } }),
        await site.get(`/v2/_millpond/blobs/${blob.digest}?want=stored`, { headers: ann }),
        await site.get(path, { headers: basic('ann', secrets.wrong) }),
        await site.get(`/token?account=${secrets.wrong}`, { headers: basic(secrets.wrong, secrets.wrong) }),
      ];
      for (const { status, body, headers: given } of tries) {
        expect([401, 403]).toContain(status);
        answers.push(body.toString('latin1'), JSON.stringify(given));
      }
      for (const operators of ['/metrics', '/readyz', '/']) answers.push((await site.get(operators)).body.toString());
      const asked = { unixSocket: join(site.cacheDir, 'control.sock') };
      answers.push((await get('http://localhost/status', asked)).body.toString());
      answers.push((await get('http://localhost/explain?image=registry.test/ann/app&as=ann', asked)).body.toString());
      answers.push(JSON.stringify(site.logLines), await filesBelow(site.cacheDir));
    }
    answers.push(await contentsOf(fleet.redis.url));
    const passed = between.map(({ seen }) => seen()).join('\n');
    expect(passed).toContain('/v2/_millpond/blobs/');
    answers.push(passed);
    const everything = answers.join('\n');
    expect(everything).toContain('"msg":"audit"');
    const keySecret = key.slice(-43);
    for (const secret of [...Object.values(secrets), keySecret, clusterSecret, token.authorization.slice(-43)]) {
      const forms = [secret, Buffer.from(secret).toString('base64').replace(/=+$/, ''), encodeURIComponent(secret)];
      for (const form of forms) expect(everything.includes(form), `${secret.slice(0, 12)}…`).toBe(false);
    }
    // The upstream has been shown its own password, and nothing that a caller has shown.
    for (const { headers } of registry.requests) {
      const shown = headers['authorization'];
      if (shown !== undefined) expect(shown).toBe(basic('mirror', secrets.upstream).authorization);
      expect(JSON.stringify(headers)).not.toContain(secrets.ann);
    }
  });
});
