import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Answer, send } from '../../hosted/support.ts';
import { type LocalBlob, type LocalManifest, localArtifact, localBlob } from '../../support/images.ts';
import { startMillpond } from '../../support/millpond.ts';
import { reservePort } from '../../support/ports.ts';
import { startRedis } from '../../support/redis.ts';
import { Random } from './random.ts';
import type { KillOptions } from './run.ts';

const pushers = 4;
const base = 'local/base';

/** Whether something is in a repository: `either` while a request about it has had no answer. */
type State = 'here' | 'gone' | 'either';

/** What one client has pushed to its repository, and what it was answered. */
interface Pushed {
  readonly repository: string;
  readonly blobs: Map<string, { readonly blob: LocalBlob; state: State }>;
  readonly manifests: Map<string, { readonly manifest: LocalManifest; state: State; readonly subject?: string }>;
  /** The digests that a tag may stand for; `undefined`: it may be missing. */
  readonly tags: Map<string, ReadonlySet<string | undefined>>;
}

export interface HostedKillReport {
  readonly violations: readonly string[];
  /** Pushes and deletes that were answered with success. */
  readonly answered: number;
  /** Requests that a kill left without an answer. */
  readonly cut: number;
}

/**
 * Kills a mirror with SIGKILL while clients push to its hosted repositories and delete from them, starts it again, and
 * looks each time at whether everything is as it was answered, and whether something half is to be seen.
 */
export async function killPushes(options: KillOptions): Promise<HostedKillReport> {
  return await kill(options, (directory) => startAlone(directory));
}

/**
 * The same, of two replicas: clients ask the one that passes on, and the owner or the other one is killed, at random.
 */
export async function killFleetPushes(options: KillOptions): Promise<HostedKillReport> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis());
  const { port } = stack.use(await reservePort());
  const secretFile = join(options.directory, 'secret');
  await writeFile(secretFile, 'the secret that both replicas share');
  const random = new Random(options.seed + 1);
  return await kill(options, (directory) => startFleet(directory, { redis: redis.url, port, secretFile, random }));
}

/** A mirror, and what is killed of it. */
interface Target extends AsyncDisposable {
  readonly origin: string;
  /** The cache directory of the one that keeps hosted content. */
  readonly data: string;
  kill(): void;
}

async function kill(
  { count, seed, directory, onKill }: KillOptions,
  start: (directory: string) => Promise<Target>,
): Promise<HostedKillReport> {
  const random = new Random(seed);
  const shared = localBlob('shared by all repositories');
  const clients = Array.from({ length: pushers }, (_, at) => new Pusher(`local/client-${at}`, { random, shared }));
  const violations: string[] = [];
  let origin = '';
  for (let round = 0; round <= count && violations.length === 0; round += 1) {
    await using mirror = await start(directory);
    ({ origin } = mirror);
    if (round === 0) {
      const pushed = await send(mirror, ['POST', `/v2/${base}/blobs/uploads/?digest=${shared.digest}`], {
        body: shared.bytes,
      });
      if (pushed.status !== 201) violations.push(`the first push gave ${pushed.status}`);
    }
    for (const client of clients) violations.push(...(await client.check(origin)));
    violations.push(...(await wrongFiles(join(mirror.data, 'hosted', 'blobs'))));
    if (round === count) break;
    const requests = random.between(1, 120);
    const running = Promise.all(clients.map((client) => client.run(origin)));
    const sentBefore = sent(clients);
    const ended = new AbortController();
    void running.then(() => ended.abort());
    while (!ended.signal.aborted && sent(clients) < sentBefore + requests) await delay(1);
    // Within a request as well as between two.
    await delay(random.next() * 8);
    mirror.kill();
    violations.push(...(await running).flat());
    onKill?.(`${round + 1}/${count} killed after ${sent(clients) - sentBefore} requests`);
  }
  const total = (pick: (client: Pusher) => number): number => clients.map(pick).reduce((sum, value) => sum + value, 0);
  return { violations, answered: total(({ answered }) => answered), cut: total(({ cut }) => cut) };
}

const upstreams = { 'registry.test': { urls: ['http://127.0.0.1:1'] } };

async function startAlone(directory: string): Promise<Target> {
  const mirror = await startMillpond({ upstreams, hosted: { repositories: ['local/**'] } }, { directory });
  return {
    origin: mirror.origin,
    data: join(directory, 'data'),
    kill: () => mirror.process.kill('SIGKILL'),
    [Symbol.asyncDispose]: () => mirror[Symbol.asyncDispose](),
  };
}

async function startFleet(
  directory: string,
  options: { readonly redis: string; readonly port: number; readonly secretFile: string; readonly random: Random },
): Promise<Target> {
  const { redis, port, secretFile, random } = options;
  const hosted = { repositories: ['local/**'], owner: `http://127.0.0.1:${port}` };
  const config = { upstreams, hosted, redis: { url: redis }, cluster: { secretFile } };
  await using stack = new AsyncDisposableStack();
  const place = async (name: string): Promise<string> => {
    await mkdir(join(directory, name), { recursive: true });
    return join(directory, name);
  };
  const owner = stack.use(
    await startMillpond({ ...config, listen: `127.0.0.1:${port}` }, { directory: await place('owner') }),
  );
  const other = stack.use(await startMillpond(config, { directory: await place('other') }));
  const owned = stack.move();
  return {
    origin: other.origin,
    data: join(directory, 'owner', 'data'),
    kill: () => random.pick([owner, other]).process.kill('SIGKILL'),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function sent(clients: readonly Pusher[]): number {
  return clients.reduce((sum, client) => sum + client.answered + client.cut, 0);
}

/** Files that do not have the digest that they are named by. */
async function wrongFiles(folder: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const hex of await readdir(join(folder, 'sha256'))) {
    const digest = createHash('sha256').update(await readFile(join(folder, 'sha256', hex)));
    if (digest.digest('hex') !== hex) wrong.push(`the file ${hex} has other bytes`);
  }
  return wrong;
}

/** A client that pushes to one repository and deletes from it until the mirror is gone. */
class Pusher {
  answered = 0;
  cut = 0;
  readonly #random: Random;
  readonly #shared: LocalBlob;
  readonly #pushed: Pushed;
  #next = 0;

  constructor(repository: string, { random, shared }: { random: Random; shared: LocalBlob }) {
    this.#random = random;
    this.#shared = shared;
    this.#pushed = { repository, blobs: new Map(), manifests: new Map(), tags: new Map() };
  }

  /** @returns answers that should not have been given */
  async run(origin: string): Promise<string[]> {
    try {
      for (;;) await this.#step(origin);
    } catch (error) {
      if (error instanceof WrongAnswer) return [error.message];
      this.cut += 1;
      return [];
    }
  }

  /** Compares what the mirror has with what it has answered. @returns what is wrong, in sentences */
  async check(origin: string): Promise<string[]> {
    const { repository, blobs, manifests, tags } = this.#pushed;
    const wrong: string[] = [];
    for (const [digest, entry] of blobs) {
      const got = await send({ origin }, ['GET', `/v2/${repository}/blobs/${digest}`]);
      entry.state = seen(got, { ...entry, bytes: entry.blob.bytes, what: `${repository} blob ${digest}`, wrong });
    }
    for (const [digest, entry] of manifests) {
      const got = await send({ origin }, ['GET', `/v2/${repository}/manifests/${digest}`]);
      const what = `${repository} manifest ${digest}`;
      entry.state = seen(got, { ...entry, bytes: entry.manifest.bytes, what, wrong });
      const lacking = entry.manifest.blobs.filter((blob) => blobs.get(blob.digest)?.state !== 'here');
      if (entry.state === 'here' && lacking.length > 0) wrong.push(`${what} is here without what it names`);
      if (entry.subject === undefined) continue;
      const path = `/v2/${repository}/referrers/${entry.subject}`;
      const { body } = await send({ origin }, ['GET', path]);
      const isListed = body.toString().includes(digest);
      if (isListed !== (entry.state === 'here')) wrong.push(`${what} is ${entry.state}; listed: ${isListed}`);
    }
    const listed = await send({ origin }, ['GET', `/v2/${repository}/tags/list`]);
    const names = listed.status === 200 ? (JSON.parse(listed.body.toString()) as { tags: string[] }).tags : [];
    for (const [tag, possible] of tags) {
      const got = await send({ origin }, ['GET', `/v2/${repository}/manifests/${tag}`]);
      const digest = got.status === 200 ? String(got.headers['docker-content-digest']) : undefined;
      if (!possible.has(digest)) wrong.push(`${repository}:${tag} is ${digest}, not ${[...possible].join(' or ')}`);
      if (names.includes(tag) !== (digest !== undefined))
        wrong.push(`${repository}:${tag} is ${digest}; the list differs`);
      tags.set(tag, new Set([digest]));
    }
    return wrong;
  }

  async #step(origin: string): Promise<void> {
    const { blobs, manifests, tags } = this.#pushed;
    const here = [...manifests.values()].filter(({ state }) => state === 'here');
    const kind = this.#random.next();
    if (kind < 0.6 || here.length === 0) return await this.#pushImage(origin, here);
    if (kind < 0.75) return await this.#deleteManifest(origin, this.#random.pick(here).manifest.digest);
    if (kind < 0.88) {
      const [tag] = this.#random.pick([...tags]);
      const before = tags.get(tag) ?? new Set();
      if (before.has(undefined)) return;
      tags.set(tag, new Set([...before, undefined]));
      await this.#expect(origin, ['DELETE', `manifests/${tag}`], 202);
      tags.set(tag, new Set([undefined]));
      return;
    }
    const named = new Set(here.flatMap(({ manifest }) => manifest.blobs.map(({ digest }) => digest as string)));
    const loose = [...blobs].find(([digest, { state }]) => state === 'here' && !named.has(digest));
    if (loose === undefined) return await this.#pushImage(origin, here);
    const [digest, entry] = loose;
    entry.state = 'either';
    await this.#expect(origin, ['DELETE', `blobs/${digest}`], 202);
    entry.state = 'gone';
  }

  async #pushImage(origin: string, here: readonly { readonly manifest: LocalManifest }[]): Promise<void> {
    const { repository, manifests, tags } = this.#pushed;
    this.#next += 1;
    const own = localBlob(`${repository} ${this.#next} ${'x'.repeat(this.#random.between(0, 300_000))}`);
    // The same bytes come from several clients at once.
    const common = localBlob(`common ${this.#random.between(0, 4)}`);
    const subject = here.length > 0 && this.#random.next() < 0.3 ? this.#random.pick(here).manifest : undefined;
    const manifest = localArtifact({
      artifactType: 'application/x-test',
      config: this.#shared,
      layers: [own, common],
      ...(subject && { subject }),
      annotations: { number: `${repository} ${this.#next}` },
    });
    for (const blob of manifest.blobs) await this.#pushBlob(origin, blob);
    const tag = `t${this.#random.between(0, 12)}`;
    const before = tags.get(tag) ?? new Set([undefined]);
    const entry = { manifest, state: 'either' as State, ...(subject && { subject: subject.digest as string }) };
    manifests.set(manifest.digest, entry);
    tags.set(tag, new Set([...before, manifest.digest]));
    const headers = { 'content-type': manifest.mediaType };
    await this.#expect(origin, ['PUT', `manifests/${tag}`], 201, { headers, body: manifest.bytes });
    entry.state = 'here';
    tags.set(tag, new Set([manifest.digest]));
  }

  async #pushBlob(origin: string, blob: LocalBlob): Promise<void> {
    const { blobs } = this.#pushed;
    const entry = blobs.get(blob.digest) ?? { blob, state: 'gone' as State };
    if (entry.state === 'here') return;
    entry.state = 'either';
    blobs.set(blob.digest, entry);
    const way = this.#random.between(0, 3);
    if (blob === this.#shared) {
      await this.#expect(origin, ['POST', `blobs/uploads/?mount=${blob.digest}&from=${base}`], 201);
    } else if (way === 0) {
      await this.#expect(origin, ['POST', `blobs/uploads/?digest=${blob.digest}`], 201, { body: blob.bytes });
    } else {
      const { headers } = await this.#expect(origin, ['POST', 'blobs/uploads/'], 202);
      const location = String(headers['location']);
      const half = way === 1 ? 0 : Math.floor(blob.size / 2);
      if (half > 0) await this.#expect(origin, ['PATCH', location], 202, { body: blob.bytes.subarray(0, half) });
      await this.#expect(origin, ['PUT', `${location}?digest=${blob.digest}`], 201, {
        body: blob.bytes.subarray(half),
      });
    }
    entry.state = 'here';
  }

  async #deleteManifest(origin: string, digest: string): Promise<void> {
    const { manifests, tags } = this.#pushed;
    const entry = manifests.get(digest);
    if (entry === undefined) return;
    entry.state = 'either';
    const standing = [...tags].filter(([, possible]) => possible.has(digest));
    for (const [tag, possible] of standing) tags.set(tag, new Set([...possible, undefined]));
    await this.#expect(origin, ['DELETE', `manifests/${digest}`], 202);
    entry.state = 'gone';
    for (const [tag] of standing) tags.set(tag, new Set([undefined]));
  }

  /** @param target below the repository, or a `Location` @throws WrongAnswer; the error of the connection */
  async #expect(
    origin: string,
    [method, target]: readonly [method: string, target: string],
    status: number,
    options?: Parameters<typeof send>[2],
  ): Promise<Answer> {
    const path = target.startsWith('/') ? target : `/v2/${this.#pushed.repository}/${target}`;
    const answer = await send({ origin }, [method, path], options);
    // The replica that passes on has lost the owner in the middle: what became of the request is not known.
    if (answer.status === 503) throw new Error('the owner is away');
    if (answer.status !== status)
      throw new WrongAnswer(`${method} ${path} gave ${answer.status}: ${answer.body.toString()}`);
    this.answered += 1;
    return answer;
  }
}

class WrongAnswer extends Error {}

/** What an answer says of a blob or a manifest that may be here. */
function seen(
  { status, body }: Answer,
  { state, bytes, what, wrong }: { state: State; bytes: Buffer; what: string; wrong: string[] },
): State {
  if (status !== 200 && status !== 404) wrong.push(`${what} gave ${status}`);
  if (status === 200 && !body.equals(bytes)) wrong.push(`${what} has other bytes`);
  const found = status === 200 ? 'here' : 'gone';
  if (state !== 'either' && state !== found) wrong.push(`${what} was ${state} before the kill and is ${found}`);
  return found;
}
