import { Agent, get as httpGet } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';

/** What was measured of some requests. */
export interface Measured {
  readonly requests: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly mostMs: number;
}

/** Searches as people, scripts and scanners send them: one by one each of the conditions, and some together. */
export function searchQueries(seed: number): string {
  const queries = [
    'q=database',
    `q=mailer+${seed}`,
    `q=number+${seed * 17}`,
    'q=everyone&sort=-date',
    'q=everyone&sort=-size',
    'type=helm&sort=-date',
    'type=wasm&q=gateway&sort=name',
    'type=image&latest=true&sort=-pulls',
    `repository=team-${seed % 37}/proxy-${seed}&sort=-version`,
    `q=metr&platform=linux/arm64&sort=-created`,
    `time=cached&since=3d&sort=-cached`,
    `time=created&since=2020-10-01&until=2020-11-01&sort=name`,
    `digest=${(seed * 0x9e3779b1).toString(16).padStart(8, '0').slice(-8)}`,
    'sort=-pulls',
    'sort=version&type=helm,wasm',
    'q=for+everyone+queue&minSize=500&sort=-changed',
    'q=everyone&minSize=300&since=2015-01-01&type=image&sort=-changed',
  ];
  return queries[seed % queries.length]!;
}

/** Requests over connections that stay open, each when the one before is answered. @returns what an `each` has measured */
export async function measure(
  origin: string,
  {
    pathOf,
    connections,
    seconds,
    pauseMs = 0,
    perSecond,
  }: {
    readonly pathOf: (index: number) => string;
    readonly connections: number;
    readonly seconds: number;
    /** Between two requests of a connection. */
    readonly pauseMs?: number;
    /** Over all connections, no more often than this; absent: again and again. */
    readonly perSecond?: number;
  },
): Promise<Measured> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const times: number[] = [];
  const beganMs = performance.now();
  const untilMs = beganMs + seconds * 1_000;
  let index = 0;
  const one = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const number = (index += 1);
      const earlyMs = perSecond === undefined ? 0 : beganMs + (number / perSecond) * 1_000 - performance.now();
      if (earlyMs > 0) await delay(earlyMs);
      const startedMs = performance.now();
      await request(`${origin}${pathOf(number)}`, agent);
      times.push(performance.now() - startedMs);
      if (pauseMs > 0) await delay(pauseMs);
    }
  };
  await Promise.all(Array.from({ length: connections }, one));
  agent.destroy();
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return {
    requests: times.length,
    perSecond: times.length / seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    mostMs: times.at(-1) ?? 0,
  };
}

function request(url: string, agent: Agent): Promise<void> {
  return new Promise((resolve, reject) => {
    httpGet(url, { agent }, (response) => {
      response.resume();
      response.once('error', reject);
      response.once('end', () =>
        response.statusCode === 200 ? resolve() : reject(new Error(`${url} answered ${response.statusCode}`)),
      );
    }).once('error', reject);
  });
}

/** All pages of a list. @param between called with each page; what it does happens between two pages */
export async function allPages(
  origin: string,
  first: string,
  { member, between }: { readonly member: string; readonly between: (page: number) => Promise<void> },
): Promise<string[]> {
  const found: string[] = [];
  for (let next: string | undefined = first, page = 0; next !== undefined; page += 1) {
    const response = await fetch(new URL(next, origin));
    if (response.status !== 200) throw new Error(`${next} answered ${response.status}`);
    const body = (await response.json()) as Readonly<Record<string, string[]>>;
    found.push(...(body[member] ?? []));
    next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get('link') ?? '')?.[1];
    await between(page);
  }
  return found;
}
