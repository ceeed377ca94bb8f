import { join } from 'node:path';
import type { Config } from '../config/config.ts';
import type { HostedOwner } from '../http/hosted-owner.ts';
import { ownerUpstream } from '../replicas/owner-upstream.ts';
import { OwnerWord } from '../replicas/owner-word.ts';
import { described } from './described.ts';
import type { Hosted } from './hosted.ts';
import { hostedRules } from './hosted-rules.ts';
import type { Parts } from './parts.ts';
import type { LiveReplicas } from './replicas.ts';

/**
 * The replica that keeps the hosted repositories, where that is another one.
 * @param options `config`: the one in force, read each time a request is answered
 * @returns `undefined` where this replica keeps them itself, or there are none
 */
export function openHostedOwner(
  started: Config,
  {
    others,
    config,
    log,
  }: Pick<Parts, 'log'> & { readonly others: LiveReplicas | undefined; readonly config: () => Config },
): (HostedOwner & Pick<Hosted, 'status'>) | undefined {
  const address = started.hosted?.owner;
  if (address === undefined || others === undefined || !isKeptElsewhere(started)) return undefined;
  const link = others.linkTo(address);
  const rules = hostedRules(config);
  return {
    upstream: ownerUpstream(link, {
      staleIfErrorMs: () => config().cache.staleIfErrorMs,
      answerMs: started.timeouts.answerMs * 0.9,
      maxManifestBytes: started.cache.maxManifestSizeBytes,
    }),
    get rules() {
      return rules();
    },
    send: (request) => link.send(request),
    word: new OwnerWord(join(started.cache.dir, 'hosted-refused'), {
      onFault: (error) => log.error({ error: described(error) }, 'what the owner refuses cannot be kept'),
    }),
    status: () =>
      Promise.resolve({
        role: 'replica',
        owner: address,
        away: link.away ?? null,
        repositories: 0,
        bytes: 0,
        damaged: 0,
      }),
  };
}

/** Whether a configuration says that another replica keeps the hosted repositories. */
export function isKeptElsewhere(config: Config): boolean {
  const address = config.hosted?.owner;
  return address !== undefined && address !== addressOf(config);
}

/** Where other replicas reach this one. */
function addressOf({ cluster, listen, tls }: Config): string {
  const { host = '127.0.0.1', port } = listen;
  return cluster.advertise ?? `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
