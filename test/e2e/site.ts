import { type CountingProxy, startCountingProxy } from '../support/counting-proxy.ts';
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts';
import { type LocalImage, localImage, pushImage } from '../support/images.ts';
import { type MillpondProcess, startMillpond } from '../support/millpond.ts';

/** The repository and tag that both upstreams have, with a different image in each. */
export const repository = 'library/tiny';
export const tag = 'v1';

/** One of the two upstreams: a real registry behind a proxy that counts. */
export interface SiteUpstream {
  /** The name that clients use. */
  readonly name: 'docker.io' | 'quay.io';
  readonly registry: DockerRegistry;
  readonly proxy: CountingProxy;
  /** What `library/tiny:v1` is there. */
  readonly image: LocalImage;
}

/** A mirror of two registries that stand in for docker.io and quay.io, with everything counted on both sides of it. */
export interface Site extends AsyncDisposable {
  readonly docker: SiteUpstream;
  readonly quay: SiteUpstream;
  readonly upstreams: readonly SiteUpstream[];
  readonly mirror: MillpondProcess;
  /** Where clients connect: the mirror, behind a proxy that counts. */
  readonly front: CountingProxy;
  /** What the programs said, for a test that failed. */
  readonly output: string;
}

export async function startSite(): Promise<Site> {
  await using stack = new AsyncDisposableStack();
  const docker = await startUpstream(stack, 'docker.io');
  const quay = await startUpstream(stack, 'quay.io');
  const mirror = stack.use(
    await startMillpond({
      defaultUpstream: 'docker.io',
      upstreams: {
        'docker.io': {
          urls: [docker.proxy.origin],
          aliases: ['index.docker.io', 'registry-1.docker.io'],
          hosts: ['docker.mirror.test'],
        },
        'quay.io': { urls: [quay.proxy.origin], hosts: ['quay.mirror.test'] },
      },
    }),
  );
  const front = stack.use(await startCountingProxy(mirror.origin));
  const owned = stack.move();
  return {
    docker,
    quay,
    upstreams: [docker, quay],
    mirror,
    front,
    get output() {
      return [mirror.process, docker.registry.process, quay.registry.process].map(({ output }) => output).join('\n');
    },
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

async function startUpstream(stack: AsyncDisposableStack, name: SiteUpstream['name']): Promise<SiteUpstream> {
  const registry = stack.use(await startDockerRegistry());
  const proxy = stack.use(await startCountingProxy(registry.origin));
  const image = localImage({ label: `tiny of ${name}` });
  await pushImage(registry.origin, repository, tag, image);
  return { name, registry, proxy, image };
}
