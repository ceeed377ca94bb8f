import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type RunningProcess, run, startProcess } from './processes.ts';
import { temporaryDirectory } from './temporary-directory.ts';
import { toolPath } from './tools.ts';

export interface ContainerdOptions {
  /** `containerd` and `ctr` of the system, or those of release 2. */
  readonly release?: 'system' | '2';
  /** Lets release 2 fetch a layer in several requests, each for so many bytes (default: in one request). */
  readonly layerFetchBytes?: number;
  /** Also what kubelet asks (CRI), with registries as this folder says (default: without CRI). */
  readonly cri?: { readonly hostsDirectory: string };
  /** What goes before each command line, such as `ip netns exec NAME`. */
  readonly through?: readonly string[];
}

/** A containerd with root, state and socket in a temporary folder, for pulls by `ctr` or through CRI. */
export interface Containerd extends AsyncDisposable {
  readonly process: RunningProcess;
  readonly socket: string;
  /** Runs `ctr` against it. */
  ctr(...args: readonly string[]): Promise<string>;
  /**
   * Writes a folder for `--hosts-dir`.
   * @param hosts host name or `_default` → text of its hosts.toml
   */
  hostsDirectory(name: string, hosts: Readonly<Record<string, string>>): Promise<string>;
}

const criPlugins = [
  'io.containerd.grpc.v1.cri',
  'io.containerd.cri.v1.images',
  'io.containerd.cri.v1.runtime',
  'io.containerd.podsandbox.controller.v1.podsandbox',
];
const unneededPlugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.internal.v1.opt',
  'io.containerd.internal.v1.restart',
  'io.containerd.internal.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp',
  'io.containerd.snapshotter.v1.aufs',
  'io.containerd.snapshotter.v1.blockfile',
  'io.containerd.snapshotter.v1.btrfs',
  'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs',
  'io.containerd.snapshotter.v1.overlayfs',
  'io.containerd.snapshotter.v1.zfs',
];

export async function startContainerd(options: ContainerdOptions = {}): Promise<Containerd> {
  await using stack = new AsyncDisposableStack();
  // A socket's path has at most 107 bytes.
  const directory = stack.use(await temporaryDirectory('ctrd'));
  const suffix = options.release === '2' ? '-2' : '';
  const socket = join(directory.path, 'sock');
  const configFile = join(directory.path, 'config.toml');
  const lines = [
    `version = 2`,
    `root = ${JSON.stringify(join(directory.path, 'root'))}`,
    `state = ${JSON.stringify(join(directory.path, 'state'))}`,
    `disabled_plugins = ${JSON.stringify(options.cri ? unneededPlugins : [...criPlugins, ...unneededPlugins])}`,
    `[grpc]`,
    `address = ${JSON.stringify(socket)}`,
    `[ttrpc]`,
    `address = ${JSON.stringify(`${socket}.ttrpc`)}`,
    // The transfer service of release 2 unpacks with overlayfs unless told otherwise.
    ...(options.release === '2'
      ? [
          `[plugins."io.containerd.transfer.v1.local"]`,
          `max_concurrent_downloads = 6`,
          `concurrent_layer_fetch_buffer = ${options.layerFetchBytes ?? 0}`,
          `[[plugins."io.containerd.transfer.v1.local".unpack_config]]`,
          `platform = "linux"`,
          `snapshotter = "native"`,
        ]
      : []),
  ];
  if (options.cri) lines.push(...criLines(options.release, options.cri.hostsDirectory));
  await writeFile(configFile, `${lines.join('\n')}\n`);
  const line = (name: string): string[] => [...(options.through ?? []), toolPath(name)];
  const [command = '', ...before] = line(`containerd${suffix}`);
  const { process } = await startProcess(command, {
    args: [...before, '--config', configFile],
    ready: /containerd successfully booted/,
  });
  stack.use(process);
  const owned = stack.move();
  return {
    process,
    socket,
    ctr(...args) {
      const [client = '', ...rest] = line(`ctr${suffix}`);
      return run(client, [...rest, '--address', socket, ...args]);
    },
    async hostsDirectory(name, hosts) {
      const folder = join(directory.path, name);
      for (const [host, text] of Object.entries(hosts)) {
        await mkdir(join(folder, host), { recursive: true });
        await writeFile(join(folder, host, 'hosts.toml'), text);
      }
      return folder;
    },
    [Symbol.asyncDispose]: async () => await owned.disposeAsync(),
  };
}

/** The plugin is called otherwise in release 2, and has parts. */
function criLines(release: ContainerdOptions['release'], hostsDirectory: string): string[] {
  const folder = `config_path = ${JSON.stringify(hostsDirectory)}`;
  if (release === '2') {
    const images = 'plugins."io.containerd.cri.v1.images"';
    return [`[${images}]`, `snapshotter = "native"`, `[${images}.registry]`, folder];
  }
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return [`[${cri}.containerd]`, `snapshotter = "native"`, `[${cri}.registry]`, folder];
}
