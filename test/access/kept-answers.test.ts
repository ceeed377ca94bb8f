import { appendFile, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, bearer, htpasswdFile, htpasswdLine, tokenOf } from './support.ts';

const ann = basic('ann', 'a-secret');
const bob = basic('bob', 'b-secret');
const root = basic('root', 'r-secret');
/** Reads metrics. */
const operator = { users: ['root'], actions: ['administer'] };
const policies = [
  operator,
  { users: ['ann'], repositories: ['registry.test/ann/**'] },
  { users: ['bob'], repositories: ['registry.test/bob/**'] },
];

/** A mirror with an image of ann, and its callers. */
async function start(stack: AsyncDisposableStack, auth: Readonly<Record<string, unknown>> = {}) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, { ann: 'a-secret', bob: 'b-secret', root: 'r-secret' });
  const registry = stack.use(await startRegistry());
  const image = registry.addImage('ann/app', 'v1', { layers: [registry.addBlob({ size: 100_000, seed: 'one' })] });
  const clock = { nowMs: Date.now() };
  const settings = { htpasswdFile: file, tokenExpiry: '1h', policies, ...auth };
  const site = stack.use(
    await startTestSite({
      upstreams: { 'registry.test': registry },
      config: { auth: settings, cache: { tagTtl: '1h' } },
      now: () => clock.nowMs,
    }),
  );
  const path = `/v2/registry.test/ann/app/manifests/${image.digest}`;
  const keptCount = async (): Promise<number> => {
    const { body } = await site.get('/metrics', { headers: root });
    return Number(/^millpond_kept_answers_total (\d+)/m.exec(body.toString())?.[1]);
  };
  /** @returns the status, and whether the answer was one that is kept */
  const ask = async (headers: Readonly<Record<string, string>>, asked = path): Promise<[number, string]> => {
    const before = await keptCount();
    const { status } = await site.get(asked, { headers });
    return [status, (await keptCount()) > before ? 'kept' : 'decided'];
  };
  /** Asks until an answer is kept: what comes from the upstream has to be stored first. */
  const warm = async (headers: Readonly<Record<string, string>>): Promise<void> => {
    await expect.poll(() => ask(headers)).toEqual([200, 'kept']);
  };
  return { site, file, path, image, clock, settings, ask, warm };
}

describe('an answer that is kept for a caller', () => {
  test('is given for the same credentials alone', async () => {
    await using stack = new AsyncDisposableStack();
    const { ask, warm, image } = await start(stack);
    await warm(ann);
    for (const part of [`manifests/v1`, `blobs/${image.config.digest}`]) {
      const asked = `/v2/registry.test/ann/app/${part}`;
      await expect.poll(() => ask(ann, asked)).toEqual([200, 'kept']);
    }
    expect(await ask(bob)).toEqual([403, 'decided']);
    expect(await ask({})).toEqual([401, 'decided']);
    expect(await ask(basic('ann', 'wrong'))).toEqual([401, 'decided']);
    expect(await ask({ authorization: ann.authorization.replace('Basic', 'Bearer') })).toEqual([401, 'decided']);
  });

  test('is decided again after ten seconds', async () => {
    await using stack = new AsyncDisposableStack();
    const { ask, warm, clock } = await start(stack);
    await warm(ann);
    clock.nowMs += 9_000;
    expect(await ask(ann)).toEqual([200, 'kept']);
    clock.nowMs += 1_000;
    expect(await ask(ann)).toEqual([200, 'decided']);
    expect(await ask(ann)).toEqual([200, 'kept']);
  });

  test('ends with the policy that allowed it', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, ask, warm, settings } = await start(stack);
    await warm(ann);
    await site.reconfigure({ auth: { ...settings, policies: [operator] } });
    expect(await ask(ann)).toEqual([403, 'decided']);
    await site.reconfigure({ auth: settings });
    await warm(ann);
    await site.reconfigure({});
    expect((await site.get('/v2/registry.test/ann/app/tags/list')).status).toBe(200);
    await site.reconfigure({ auth: settings });
    expect(await ask({})).toEqual([401, 'decided']);
  });

  test('ends with the password', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, ask, warm, file } = await start(stack);
    await warm(ann);
    await writeFile(file, htpasswdLine('ann', 'another') + htpasswdLine('root', 'r-secret'));
    await expect.poll(async () => (await site.get('/v2/', { headers: ann })).status).toBe(401);
    expect(await ask(ann)).toEqual([401, 'decided']);
    await appendFile(file, htpasswdLine('cay', 'c'));
    await warm(basic('ann', 'another'));
  });

  test('ends with the token', async () => {
    await using stack = new AsyncDisposableStack();
    const { site, ask, warm, clock } = await start(stack, { tokenExpiry: '5m' });
    const token = bearer(await tokenOf(site, 'repository:registry.test/ann/app:pull', ann));
    await warm(token);
    // Clocks of replicas may differ by a minute.
    clock.nowMs += 300_000 + 58_000;
    expect(await ask(token)).toEqual([200, 'decided']);
    expect(await ask(token)).toEqual([200, 'kept']);
    clock.nowMs += 3_000;
    expect(await ask(token)).toEqual([401, 'decided']);
    const narrow = bearer(await tokenOf(site, 'repository:registry.test/ann/other:pull', ann));
    expect(await ask(narrow)).toEqual([401, 'decided']);
  });

  test('is given to callers without credentials as long as they may read', async () => {
    await using stack = new AsyncDisposableStack();
    const open = { anonymous: true, repositories: ['registry.test/ann/**'] };
    const { site, ask, warm, settings } = await start(stack, { anonymous: true, policies: [operator, open] });
    await warm({});
    expect(await ask(basic('ann', 'wrong'))).toEqual([401, 'decided']);
    await site.reconfigure({ auth: { ...settings, policies: [operator] } });
    expect(await ask({})).toEqual([401, 'decided']);
  });
});

test('no answer is kept for a caller where a policy looks at addresses', async () => {
  await using stack = new AsyncDisposableStack();
  const { ask } = await start(stack, { policies: [operator, { users: ['ann'], addresses: ['127.0.0.0/8'] }] });
  for (let time = 0; time < 4; time += 1) expect(await ask(ann)).toEqual([200, 'decided']);
});
