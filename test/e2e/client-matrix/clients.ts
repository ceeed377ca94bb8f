import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startContainerd } from '../../support/containerd.ts';
import { dockerDaemonTools, startDockerDaemon } from '../../support/docker-daemon.ts';
import { type LocalManifest, localChart, localImage } from '../../support/images.ts';
import { run } from '../../support/processes.ts';
import type { Credentials } from '../../support/token-service.ts';
import { type Requirement, toolPath } from '../../support/tools.ts';

export const tag = '1.0.0';

/** Where an artifact is, and an empty folder for the client. */
export interface Pulled {
  /** The registry, as host and port. */
  readonly host: string;
  /** The path of the repository at that host. */
  readonly repository: string;
  readonly folder: string;
  /** The host's credentials; the client may have them in other ways too. */
  readonly credentials?: Credentials | undefined;
}

export type Pull = (pulled: Pulled) => Promise<unknown>;

export interface Client {
  readonly name: string;
  readonly requirements: readonly Requirement[];
  /** Not needed by `npm test`. */
  readonly isLong?: boolean;
  /** Makes an artifact that the client can pull; another one for each label. */
  readonly artifact: (label: string) => LocalManifest;
  /** Starts what the client needs. @returns a function that pulls an artifact by its tag, with all that it consists of */
  readonly start: (stack: AsyncDisposableStack) => Promise<Pull> | Pull;
}

const image = (label: string): LocalManifest => localImage({ label });

/** A client that is one program and keeps nothing. */
function program(name: string, argumentsOf: (pulled: Pulled) => readonly string[], of: Partial<Client> = {}): Client {
  return {
    name,
    requirements: [name],
    artifact: image,
    start:
      () =>
      async (pulled): Promise<void> => {
        const { folder } = pulled;
        await writeCredentials(pulled);
        const env = { HOME: folder, TMPDIR: folder, HELM_CONFIG_HOME: folder, HELM_CACHE_HOME: folder };
        await run(toolPath(name), argumentsOf(pulled), { env, cwd: folder });
      },
    ...of,
  };
}

/** Docker's file of credentials, which all of these programs read. */
async function writeCredentials({ host, folder, credentials }: Pulled): Promise<void> {
  if (credentials === undefined) return;
  const auth = Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64');
  await mkdir(join(folder, '.docker'));
  await writeFile(join(folder, '.docker', 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
}

const nameOf = ({ host, repository }: Pulled): string => `${host}/${repository}:${tag}`;
/** Storage of its own for podman and buildah. */
const storage = (folder: string): string[] => {
  const place = (name: string): string => join(folder, name);
  return ['--root', place('r'), '--runroot', place('u'), '--storage-driver', 'vfs'];
};

export const clients: readonly Client[] = [
  program('skopeo', (pulled) => {
    const options = ['--insecure-policy', 'copy', '--quiet', '--all', '--src-tls-verify=false'];
    return [...options, `docker://${nameOf(pulled)}`, `dir:${join(pulled.folder, 'image')}`];
  }),
  program('oras', (pulled) => {
    const target = ['--to-oci-layout', `${join(pulled.folder, 'image')}:${tag}`];
    return ['copy', '--from-plain-http', nameOf(pulled), ...target];
  }),
  program(
    'podman',
    (pulled) => {
      const own = [...storage(pulled.folder), '--cgroup-manager', 'cgroupfs', '--events-backend', 'file'];
      return [...own, 'pull', '--quiet', '--tls-verify=false', nameOf(pulled)];
    },
    { requirements: ['root', 'podman'], isLong: true },
  ),
  program('buildah', (pulled) => [...storage(pulled.folder), 'pull', '--quiet', '--tls-verify=false', nameOf(pulled)], {
    requirements: ['root', 'buildah'],
    isLong: true,
  }),
  program(
    'helm',
    ({ host, repository, folder }) => {
      const options = ['--registry-config', join(folder, '.docker', 'config.json'), '--version', tag];
      return ['pull', '--plain-http', `oci://${host}/${repository}`, ...options];
    },
    { artifact: localChart, isLong: true },
  ),
  program(
    'crane',
    (pulled) => ['pull', '--insecure', '--format', 'oci', nameOf(pulled), join(pulled.folder, 'image')],
    {
      isLong: true,
    },
  ),
  program(
    'regctl',
    (pulled) => {
      const plain = ['--host', `reg=${pulled.host},tls=disabled`];
      return [...plain, 'image', 'copy', nameOf(pulled), `ocidir://${join(pulled.folder, 'image')}:${tag}`];
    },
    { isLong: true },
  ),
  ...(['system', '2'] as const).map(
    (release): Client => ({
      name: release === '2' ? 'ctr of containerd 2' : 'ctr',
      requirements: release === '2' ? ['root', 'containerd-2', 'ctr-2'] : ['root', 'containerd', 'ctr'],
      isLong: true,
      artifact: image,
      async start(stack) {
        const containerd = stack.use(await startContainerd({ release }));
        return async ({ credentials, ...pulled }) => {
          const user = credentials ? ['--user', `${credentials.username}:${credentials.password}`] : [];
          const options = ['--plain-http', '--snapshotter', 'native', ...user];
          await containerd.ctr('images', 'pull', ...options, nameOf(pulled));
        };
      },
    }),
  ),
  {
    name: 'docker',
    requirements: dockerDaemonTools,
    isLong: true,
    artifact: image,
    async start(stack) {
      const daemon = stack.use(await startDockerDaemon());
      return async ({ credentials, ...pulled }) => {
        const { username = '', password = '' } = credentials ?? {};
        if (credentials) await daemon.docker('login', '--username', username, '--password', password, pulled.host);
        await daemon.docker('pull', '--quiet', nameOf(pulled));
      };
    },
  },
];
