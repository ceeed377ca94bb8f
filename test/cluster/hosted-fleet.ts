import { htpasswdFile } from '../access/support.ts';
import { reservePort } from '../support/ports.ts';
import type { TestSite } from '../support/site.ts';
import { startFleet, type TestFleet } from './support.ts';

/** Replicas of which the first keeps the hosted repositories `local/**`. */
export interface HostedFleet extends TestFleet {
  readonly owner: TestSite;
  readonly others: readonly TestSite[];
  /** Starts the owner again, over the same disk and at the same address. */
  restartOwner(): Promise<TestSite>;
}

/** @param options `others`: how many replicas pass on */
export async function startHostedFleet(
  options: {
    readonly others?: number;
    readonly hosted?: Readonly<Record<string, unknown>>;
    readonly config?: object;
    readonly upstreams?: Readonly<Record<string, { readonly origin: string }>>;
  } = {},
): Promise<HostedFleet> {
  const { others = 1, hosted } = options;
  await using stack = new AsyncDisposableStack();
  const address = `127.0.0.1:${stack.use(await reservePort()).port}`;
  const config = { hosted: { repositories: ['local/**'], owner: `http://${address}`, ...hosted }, ...options.config };
  const { upstreams = { 'registry.test': { origin: 'http://127.0.0.1:1' } } } = options;
  const fleet = stack.use(await startFleet({ replicas: 0, upstreams, config }));
  const startOwner = (cacheDir?: string): Promise<TestSite> =>
    fleet.add({ config: { ...config, listen: address }, ...(cacheDir !== undefined && { cacheDir }) });
  const owner = await startOwner();
  for (let index = 0; index < others; index += 1) await fleet.add();
  const owned = stack.move();
  return {
    ...fleet,
    owner,
    others: fleet.sites.slice(1),
    async restartOwner() {
      await owner.stop();
      return await startOwner(owner.cacheDir);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Callers of whom one may push, and the other may read `local/bob` alone. @returns the configuration's `auth` */
export async function annAndBob(folder: string): Promise<object> {
  return {
    htpasswdFile: await htpasswdFile(folder, { ann: 'a-secret', bob: 'b-secret' }),
    policies: [
      { users: ['ann'], actions: ['pull', 'push', 'search'] },
      { users: ['bob'], repositories: ['local/bob'], actions: ['pull', 'search'] },
    ],
  };
}
