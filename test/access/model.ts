import { expect } from 'vitest';
import { follow } from '../events/follow.ts';
import type { Reply } from '../support/client.ts';
import { localImage } from '../support/images.ts';
import type { TestSite } from '../support/site.ts';
import {
  type Asked,
  askedOf,
  type Folder,
  isGiven,
  isShown,
  type Rule,
  randomOf,
  ruleOf,
  type User,
  users,
} from './model-requests.ts';
import { common, prepare, root } from './model-setting.ts';
import { pushAs } from './push.ts';

type Rules = readonly Rule[] | undefined;

export interface ModelOptions {
  readonly requests: number;
  readonly seed: number;
  /** Whether two replicas are asked, each of which may have it from the other; without hosted repositories. */
  readonly isFleet?: boolean;
}

/**
 * Asks at random for what two users have, as those users and anonymously, while the policies change, and compares each answer
 * with what the first rule that matches says. Requests that a change overtakes may be answered by either policy.
 * @returns how many requests were answered as they have to be
 * @throws on the first wrong answer
 */
export async function compareWithModel({ requests, seed, isFleet = false }: ModelOptions): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const random = randomOf(seed);
  const pick = <Value>(values: readonly Value[]): Value => values[Math.floor(random(values.length))]!;
  const setting = await prepare(stack, { isFleet });
  const { sites, folders, images, reconfigure } = setting;
  const streams = isFleet ? undefined : await openStreams(stack, setting);
  // A long run asks more between two changes, which take most of the time.
  const perRound = requests > 10_000 ? 192 : 24;
  let rules: Rules;
  let done = 0;
  for (let round = 0; done < requests; round += 1) {
    const before = rules;
    rules = random(12) < 1 ? undefined : Array.from({ length: 1 + random(5) }, () => ruleOf(pick, folders));
    const isOvertaken = random(3) < 1 && done > 0;
    const asked = Array.from({ length: perRound }, () => askedOf(pick, { ...setting, isFleet }));
    const change = reconfigure(rules);
    if (!isOvertaken) await change;
    const accepted = isOvertaken ? [before, rules] : [rules];
    // What was answered is kept: the second time another thread may give it.
    for (const _ of isOvertaken ? [0] : [0, 1]) {
      const answers: Reply[] = [];
      for (let from = 0; from < asked.length; from += 24) {
        const some = asked.slice(from, from + 24);
        answers.push(...(await Promise.all(some.map(({ path, ...one }) => pick(sites).get(path, one)))));
      }
      for (const [index, one] of asked.entries()) {
        const answer = answers[index]!;
        const shown = `${one.user} (${one.shown}) ${one.method} ${one.path} ${JSON.stringify(one.headers)}: ${answer.status}, seed ${seed}, round ${round}`;
        expectRight(one, answer, { accepted, shown, first: folders[0]!, own: images.get(one.folder)! });
      }
      done += asked.length;
    }
    await change;
    if (streams && round % 8 === 0) await streams.expectRight(rules, `seed ${seed}, round ${round}`);
  }
  for (const body of setting.received) expect(body).toMatch(/"repository":"local\/ann\//);
  return done;
}

function expectRight(
  asked: Asked,
  answer: Reply,
  {
    accepted,
    shown,
    first,
    own,
  }: {
    readonly accepted: readonly Rules[];
    readonly shown: string;
    readonly first: Folder;
    readonly own: { readonly blobs: readonly { readonly digest: string }[] };
  },
): void {
  const isAnswered = answer.status < 400;
  const verdicts = new Set(accepted.map((rules) => isGiven(rules, asked, first)));
  // Administration is not offered where callers are not distinguished.
  if (asked.kind === 'write' && verdicts.has(true) && !isAnswered) return;
  if (!verdicts.has(isAnswered)) throw new Error(`${shown}; rules ${JSON.stringify(accepted)}`);
  const text = answer.body.toString('latin1') + JSON.stringify(answer.headers);
  if (isAnswered) {
    if (asked.kind === 'list') expectNames(text, { accepted, user: asked.user, shown });
    return;
  }
  expect([401, 403, 404, 429], shown).toContain(answer.status);
  if (asked.kind === 'content' && asked.shown !== 'wrong') expect([401, 403], shown).toContain(answer.status);
  for (const { digest } of own.blobs) if (!asked.path.includes(digest)) expect(text, shown).not.toContain(digest);
}

/** A list may name only what one of the policies shows. */
function expectNames(
  text: string,
  { accepted, user, shown }: { readonly accepted: readonly Rules[]; readonly user: User; readonly shown: string },
): void {
  for (const [, folder] of text.matchAll(/((?:registry\.test|archive\.test|local)\/(?:ann|bob))\//g)) {
    const isAnywhere = accepted.some((rules) => isShown(rules, { user, folder: folder as Folder }));
    if (!isAnywhere) throw new Error(`${shown}: names ${folder}; rules ${JSON.stringify(accepted)}`);
  }
}

/** A stream of events for each user, open while the policies change. */
async function openStreams(
  stack: AsyncDisposableStack,
  { sites: [site], credentials }: Awaited<ReturnType<typeof prepare>>,
) {
  const streams = new Map<User, ReturnType<typeof follow>>();
  for (const user of users) {
    const stream = stack.use(follow(site!, credentials(user, 'token')));
    await expect.poll(stream.isOpened).toBe(true);
    streams.set(user, stream);
  }
  let pushes = 0;
  return {
    /** Pushes to each hosted repository, and checks which callers get the events. */
    async expectRight(rules: Rules, shown: string): Promise<void> {
      pushes += 1;
      const tag = `push-${pushes}`;
      for (const folder of ['local/ann', 'local/bob'] as const) await push(site!, `${folder}/app`, tag);
      await push(site!, common, tag);
      for (const user of users) {
        const stream = streams.get(user)!;
        const told = (): readonly string[] =>
          stream.events.flatMap(({ data: { data } }) => (data.tag === tag ? [data.repository ?? ''] : []));
        // It comes last, and to all.
        await expect.poll(() => told().includes(common)).toBe(true);
        const visible = (['local/ann', 'local/bob'] as const).filter((folder) => isShown(rules, { user, folder }));
        expect([...new Set(told())], `${user}, ${shown}`).toEqual([
          ...visible.map((folder) => `${folder}/app`),
          common,
        ]);
        stream.events.length = 0;
      }
    },
  };
}

async function push(site: TestSite, repository: string, tag: string): Promise<void> {
  await pushAs(site, root, { repository, image: localImage({ label: `${repository} ${tag}` }), tag });
}
