import { expect } from 'vitest';
import { type LocalImage, localImage } from '../support/images.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite, type TestSite, temporaryFolder } from '../support/site.ts';
import { pushAs } from './push.ts';
import { basic, bearer, htpasswdFile } from './support.ts';

/** A rule as the model knows it: whom it means, which folder, what it says. */
interface Rule {
  readonly who: User;
  readonly folder: Folder;
  readonly effect: 'allow' | 'deny';
}

const users = ['ann', 'bob', 'anonymous'] as const;
const folders = ['registry.test/ann', 'registry.test/bob', 'local/ann', 'local/bob'] as const;
type User = (typeof users)[number];
type Folder = (typeof folders)[number];

/** What a request asks for, and what it may give away. */
interface Asked {
  readonly user: User;
  readonly folder: Folder;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Numbers that a seed decides (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return (((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * below;
  };
}

/**
 * Asks at random for what two users have, as those users and as no one, while the policies change, and compares each answer
 * with what the first rule that matches says. Requests that a change overtakes may be answered by either policy.
 * @returns how many requests were answered as they have to be
 * @throws on the first wrong answer
 */
export async function compareWithModel({ requests, seed }: { requests: number; seed: number }): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const random = randomOf(seed);
  const pick = <Value>(values: readonly Value[]): Value => values[Math.floor(random(values.length))]!;
  const { site, images, config, credentials } = await prepare(stack);
  let rules: readonly Rule[] | undefined;
  let done = 0;
  while (done < requests) {
    const before = rules;
    rules = random(12) < 1 ? undefined : Array.from({ length: 1 + random(5) }, () => ruleOf(pick));
    const overtaken = random(3) < 1;
    const asked = Array.from({ length: 24 }, () => askedOf(pick, images, credentials));
    const change = site.reconfigure(config(rules));
    if (!overtaken || done === 0) await change;
    const answers = await Promise.all(asked.map(({ path, ...one }) => site.get(path, one)));
    await change;
    const accepted = overtaken && done > 0 ? [before, rules] : [rules];
    for (const [index, one] of asked.entries()) {
      const answer = answers[index]!;
      const verdicts = new Set(accepted.map((set) => mayPull(set, one)));
      const isGiven = answer.status < 400;
      const text = answer.body.toString('latin1') + JSON.stringify(answer.headers);
      const given = isGiven ? 'given' : `refused with ${answer.status}`;
      const shown = `${one.user} ${one.method} ${one.path} ${JSON.stringify(one.headers['range'] ?? '')}: ${given}, seed ${seed}`;
      if (one.path === '/v2/_catalog?n=100') {
        if (answer.status === 200) expectCatalog(answer.body, { accepted, user: one.user, shown });
        continue;
      }
      if (!verdicts.has(isGiven)) throw new Error(`${shown}; rules ${JSON.stringify(accepted)}`);
      if (isGiven) continue;
      expect([401, 403], shown).toContain(answer.status);
      for (const digest of images.get(one.folder)!.blobs.map((blob) => blob.digest)) {
        if (!one.path.includes(digest)) expect(text, shown).not.toContain(digest);
      }
    }
    done += asked.length;
  }
  return done;
}

async function prepare(stack: AsyncDisposableStack) {
  const folder = stack.use(await temporaryFolder());
  const passwords = { ann: 'a-secret', bob: 'b-secret' };
  const file = await htpasswdFile(folder.path, passwords);
  const registry = stack.use(await startRegistry());
  const images = new Map<Folder, LocalImage>();
  for (const [index, name] of folders.entries()) {
    images.set(name, localImage({ label: `of ${name} ${index}` }));
  }
  for (const name of ['ann', 'bob'] as const) {
    // The two have a layer in common: by its digest alone no one gets it.
    const layers = ['in common', `layer of ${name}`].map((seed) => registry.addBlob({ size: 2_000, seed }));
    const { digest } = registry.addImage(`${name}/app`, 'v1', { layers });
    images.set(`registry.test/${name}`, { digest, blobs: layers } as unknown as LocalImage);
  }
  const hosted = { repositories: ['local/**'] };
  const config = (rules: readonly Rule[] | undefined) => ({
    hosted,
    log: { level: 'error' },
    ...(rules && { auth: { htpasswdFile: file, anonymous: true, tokenExpiry: '1h', policies: policiesOf(rules) } }),
  });
  const site: TestSite = stack.use(
    await startTestSite({ upstreams: { 'registry.test': registry }, config: config(undefined), keepsLog: false }),
  );
  for (const name of ['ann', 'bob'] as const) {
    const image = images.get(`local/${name}`)!;
    await pushAs(site, {}, { repository: `local/${name}/app`, image, tag: 'v1' });
  }
  await site.reconfigure(config([]));
  const tokens = new Map<User, string>();
  const scope = folders.map((name) => `scope=repository:${name}/app:pull`).join('&');
  for (const user of users) {
    const headers = user === 'anonymous' ? {} : basic(user, passwords[user]);
    const answer = await site.get(`/token?${scope}`, { headers });
    tokens.set(user, (JSON.parse(answer.body.toString()) as { token: string }).token);
  }
  const credentials = (user: User, isToken: boolean): Readonly<Record<string, string>> => {
    if (isToken) return bearer(tokens.get(user)!);
    return user === 'anonymous' ? {} : basic(user, passwords[user]);
  };
  return { site, images, config, credentials };
}

type Choose = <Value>(values: readonly Value[]) => Value;

function ruleOf(pick: Choose): Rule {
  return { who: pick(users), folder: pick(folders), effect: pick(['allow', 'allow', 'deny']) };
}

function policiesOf(rules: readonly Rule[]) {
  return rules.map(({ who, folder, effect }) => ({
    ...(who === 'anonymous' ? { anonymous: true, users: ['no one'] } : { users: [who] }),
    repositories: [`${folder}/**`],
    actions: ['pull', 'search'],
    effect,
  }));
}

/** What the first rule that matches says; without `auth`, all may pull. */
function mayPull(rules: readonly Rule[] | undefined, { user, folder }: Pick<Asked, 'user' | 'folder'>): boolean {
  if (rules === undefined) return true;
  return rules.find((rule) => rule.who === user && rule.folder === folder)?.effect === 'allow';
}
function askedOf(
  pick: Choose,
  images: ReadonlyMap<Folder, LocalImage>,
  credentials: (user: User, isToken: boolean) => Readonly<Record<string, string>>,
): Asked {
  const [user, folder] = [pick(users), pick(folders)];
  const image = images.get(folder)!;
  const { digest } = pick(image.blobs);
  const accept = { accept: 'application/vnd.oci.image.manifest.v1+json' };
  const base = `/v2/${folder}/app`;
  const [path, more] = pick<readonly [string, Readonly<Record<string, string>>]>([
    [`${base}/manifests/v1`, accept],
    [`${base}/manifests/${image.digest}`, accept],
    [`${base}/manifests/${image.digest}`, { ...accept, 'if-none-match': `"${image.digest}"` }],
    [`${base}/blobs/${digest}`, {}],
    [`${base}/blobs/${digest}`, { range: 'bytes=0-9' }],
    [`${base}/blobs/${digest}`, { range: 'bytes=0-1,4-5' }],
    [`${base}/blobs/${digest}`, { 'if-none-match': '*' }],
    [`${base}/tags/list`, {}],
    [`${base}/referrers/${image.digest}`, {}],
    [`/v2/_catalog?n=100`, {}],
  ]);
  const method = path.includes('_catalog') ? 'GET' : pick(['GET', 'GET', 'HEAD']);
  return { user, folder, method, path, headers: { ...more, ...credentials(user, pick([true, false])) } };
}

function expectCatalog(
  body: Buffer,
  { accepted, user, shown }: { accepted: readonly (readonly Rule[] | undefined)[]; user: User; shown: string },
): void {
  const { repositories } = JSON.parse(body.toString()) as { repositories: readonly string[] };
  for (const name of repositories) {
    const folder = folders.find((one) => name.startsWith(`${one}/`));
    if (folder === undefined) throw new Error(`${shown}: lists ${name}`);
    if (accepted.every((rules) => !mayPull(rules, { user, folder }))) throw new Error(`${shown}: lists ${name}`);
  }
}
