import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { startFleet } from '../cluster/support.ts';
import { runCommand } from '../support/commands.ts';
import { type LocalImage, localImage } from '../support/images.ts';
import { type LayoutImage, layoutOf, named, writeTar } from '../support/layouts.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { type Folder, foldersOf, type Rule, type Shown, type User, users } from './model-requests.ts';
import { pushAs } from './push.ts';
import { basic, bearer, htpasswdFile, tokenOf } from './support.ts';

const passwords = { ann: 'a-secret', bob: 'b-secret', root: 'r-secret' };
export const root = basic('root', passwords.root);
/** A hosted repository that everybody may read: what comes there has come to everybody. */
export const common = 'local/all/app';

/** Mirrors with what two users have, and with credentials for them. */
export async function prepare(stack: AsyncDisposableStack, { isFleet }: { readonly isFleet: boolean }) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, passwords);
  const secretFile = join(folder.path, 'hook.secret');
  await writeFile(secretFile, 'a secret of the receiver of events');
  const registry = stack.use(await startRegistry());
  const folders = foldersOf(isFleet);
  const images = new Map<Folder, LocalImage>();
  for (const [index, name] of folders.entries()) images.set(name, localImage({ label: `of ${name} ${index}` }));
  for (const name of ['ann', 'bob'] as const) {
    // The two have a layer in common: its digest alone gives no access to it.
    const layers = ['in common', `layer of ${name}`].map((seed) => registry.addBlob({ size: 2_000, seed }));
    const { digest } = registry.addImage(`${name}/app`, 'v1', { layers });
    images.set(`registry.test/${name}`, { digest, blobs: layers } as unknown as LocalImage);
  }
  // These have come by an archive, before their registry was asked for anything.
  const archived = stack.use(await startRegistry());
  const layout: LayoutImage[] = [];
  for (const name of ['ann', 'bob'] as const) {
    const image = images.get(`archive.test/${name}`)!;
    for (const { bytes } of image.blobs) archived.addBlob(bytes, { repository: `${name}/app` });
    archived.addManifest(`${name}/app`, 'v1', image.bytes.toString(), image.mediaType);
    layout.push({ manifest: image, annotations: named(`archive.test/${name}/app:v1`) });
  }
  const archive = await writeTar(join(folder.path, 'images.tar'), layoutOf(layout));
  const hook = stack.use(await receiver());
  const config = (rules: readonly Rule[] | undefined) => ({
    log: { level: 'error' },
    serve: { threads: 2 },
    ...(!isFleet && {
      hosted: { repositories: ['local/**'] },
      events: { webhooks: [{ url: hook.url, secretFile, repositories: ['local/ann/**'] }] },
    }),
    ...(rules && { auth: { htpasswdFile: file, anonymous: true, tokenExpiry: '1h', policies: policiesOf(rules) } }),
  });
  const upstreams = { 'registry.test': registry, 'archive.test': archived };
  const fleet = isFleet
    ? stack.use(await startFleet({ replicas: 2, upstreams, config: config(undefined) }))
    : undefined;
  const sites: readonly TestSite[] = fleet?.sites ?? [
    stack.use(await startTestSite({ upstreams, config: config(undefined), keepsLog: false })),
  ];
  const [site] = sites as [TestSite];
  if (!isFleet) {
    for (const name of ['ann', 'bob'] as const) {
      const image = images.get(`local/${name}`)!;
      await pushAs(site, {}, { repository: `local/${name}/app`, image, tag: 'v1' });
    }
  }
  for (const one of sites) {
    const { code, stderr } = await runCommand(['import', archive, '--cache-dir', one.cacheDir], folder.path);
    expect([code, stderr]).toEqual([0, '']);
    for (const name of folders) {
      await one.get(`/v2/${name}/app/manifests/v1`);
      await expect.poll(async () => (await one.get(`/v2/_millpond/images/${name}/app:v1`)).status).toBe(200);
    }
  }
  const reconfigure = async (rules: readonly Rule[] | undefined): Promise<void> => {
    // Each replica of a fleet keeps what makes it one.
    await Promise.all(
      sites.map((one) => (fleet ? fleet.reconfigure(one, config(rules)) : one.reconfigure(config(rules)))),
    );
  };
  await reconfigure([]);
  const tokens = new Map<string, string>();
  const [first] = folders;
  const everything = folders.map((name) => `repository:${name}/app:pull`).join(' ');
  for (const user of users) {
    const headers = user === 'anonymous' ? {} : basic(user, passwords[user]);
    tokens.set(`${user} token`, await tokenOf(site, `registry:catalog:* ${everything}`, headers));
    tokens.set(`${user} narrow`, await tokenOf(site, `repository:${first}/app:pull`, headers));
  }
  const credentials = (user: User, shown: Shown): Readonly<Record<string, string>> => {
    if (shown === 'wrong') return user === 'anonymous' ? bearer('no.such.token') : basic(`no ${user}`, passwords[user]);
    if (shown !== 'password') return bearer(tokens.get(`${user} ${shown}`)!);
    return user === 'anonymous' ? {} : basic(user, passwords[user]);
  };
  return { sites, folders, images, reconfigure, credentials, received: hook.received };
}

function policiesOf(rules: readonly Rule[]) {
  const actions = ['pull', 'search'];
  return [
    { users: ['root'], actions: ['pull', 'push', 'search'] },
    { users: ['*'], anonymous: true, repositories: [common], actions },
    ...rules.map(({ who, folder, effect }) => ({
      ...(who === 'anonymous' ? { anonymous: true, users: ['no one'] } : { users: [who] }),
      repositories: [`${folder}/**`],
      actions,
      effect,
    })),
  ];
}

/** A receiver of events. */
async function receiver() {
  const received: string[] = [];
  const server = createServer((request, response) => {
    void text(request).then((body) => {
      received.push(body);
      response.writeHead(204).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    received,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
