import type { Config } from '../config/config.ts';

/** The first screen for a person at a terminal: where the mirror is, a pull to copy, how to look at it. */
export function welcome(config: Config, { address, version }: { address: string; version: string }): string {
  const { upstreams, tls, cache } = config;
  // Every address of this machine: a person at this terminal uses this one.
  const here = address.replace(/^(?:\[::\]|0\.0\.0\.0):/, '127.0.0.1:');
  const [first] = upstreams;
  const image = upstreams.some(({ name }) => name === 'docker.io')
    ? 'docker.io/library/busybox'
    : `${first?.name ?? 'REGISTRY'}/REPOSITORY`;
  const names = upstreams.slice(0, 3).map(({ name }) => name);
  const rest = upstreams.length > names.length ? ` and ${upstreams.length - names.length} more` : '';
  return [
    `Millpond ${version} serves ${names.join(', ')}${rest}`,
    '',
    `  at      ${tls ? 'https' : 'http'}://${here}`,
    `  cache   ${cache.dir}`,
    `  pull    docker pull ${here}/${image}`,
    '  status  npx millpond status',
    '',
    '',
  ].join('\n');
}
