import { parentPort, workerData } from 'node:worker_threads';
import { type ConfigSources, loadConfig } from './load.ts';
import { type ConfigPart, upstreamsInPart, withSecretsShown } from './load-apart.ts';
import { ConfigError } from './problems.ts';

// The thread of loadConfigApart: reads a configuration and hands it over part by part, each when it is asked for.

const parts = partsOf(workerData as ConfigSources);
parentPort?.on('message', () => void handOver());

async function handOver(): Promise<void> {
  const { value } = await parts.next();
  parentPort?.postMessage(value ?? ({ kind: 'end' } satisfies ConfigPart));
}

async function* partsOf(sources: ConfigSources): AsyncGenerator<ConfigPart> {
  try {
    const { config, file } = await loadConfig(sources);
    const { upstreams, ...rest } = config;
    yield { kind: 'rest', rest: withSecretsShown(rest) as typeof rest, file };
    for (let at = 0; at < upstreams.length; at += upstreamsInPart) {
      const some = upstreams.slice(at, at + upstreamsInPart);
      yield { kind: 'upstreams', upstreams: withSecretsShown(some) as typeof some };
    }
  } catch (error) {
    const problems =
      error instanceof ConfigError ? error.problems : [error instanceof Error ? error.message : 'unknown'];
    yield { kind: 'refused', problems };
  }
}
