import type { HoldRecord } from '../holds/hold-store.ts';
import { parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/error.ts';
import type { ExtensionEndpoint, ExtensionRequest } from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';
import type { Rights } from './rights.ts';

/** The parts of the hold store that the endpoints use. */
export interface HoldRoutesOptions {
  all(): Iterable<HoldRecord>;
  /** @throws Error in one sentence where there is no such image here */
  decide(
    image: string,
    decision: { readonly verdict: 'approved' | 'rejected'; readonly reason: string | undefined },
  ): Promise<{ readonly digests: readonly string[] }>;
}

/** The endpoints by which a scanner says what it has found (docs/extensions/_millpond.md, `holds`). */
export function holdEndpoints(options: HoldRoutesOptions, rights: Rights): ExtensionEndpoint[] {
  const common = { extension: '_millpond', component: 'holds', module: '', listed: 'holds' } as const;
  return [
    {
      ...common,
      levels: ['registry'],
      methods: ['GET', 'HEAD'],
      isList: true,
      answer: (request) => list(request, options),
    },
    {
      ...common,
      levels: ['repository'],
      methods: ['GET', 'HEAD', 'PUT'],
      action: 'administer',
      answer: (request) =>
        request.ctx.method === 'PUT' ? decide(request, { options, rights }) : list(request, options),
    },
  ];
}

async function list(
  { ctx, exchange, sender, repository, mayRead }: ExtensionRequest,
  options: HoldRoutesOptions,
): Promise<void> {
  const held: object[] = [];
  for (const { digest, heldAtMs, verdict, reason } of options.all()) {
    if (verdict === 'approved') continue;
    for (const [name, atMs] of Object.entries(heldAtMs)) {
      if (repository === undefined ? !mayRead(name) : name !== repository.key) continue;
      const heldAt = new Date(atMs).toISOString();
      held.push({
        repository: name,
        digest,
        state: verdict ?? 'held',
        heldAt,
        ...(reason !== undefined && { reason }),
      });
    }
  }
  const contentType = 'application/vnd.millpond.holds.v1+json';
  await sender.send(ctx.res, jsonReply({ held }, { ...conditionsOf(ctx, exchange), contentType }), exchange);
}

/** Only a caller that is known may decide: where callers are not distinguished, the command line does. */
async function decide(
  { ctx, exchange, sender, parameters, repository }: ExtensionRequest,
  { options, rights }: { readonly options: HoldRoutesOptions; readonly rights: Rights },
): Promise<void> {
  if (repository === undefined) throw new Error('the endpoint is one of repositories');
  if (exchange.caller === undefined) {
    throw new RegistryError('not-allowed', 'callers are not authenticated here: use millpond approve or reject');
  }
  rights.require(exchange, 'administer', repository.key);
  const digest = parseDigest(parameters.get('digest') ?? '');
  const state = parameters.get('state') ?? '';
  if (state !== 'approved' && state !== 'rejected') {
    throw new RegistryError('bad-name', 'the parameter state is missing: approved or rejected');
  }
  const reason = parameters.get('reason')?.slice(0, 500) ?? undefined;
  const { digests } = await options.decide(`${repository.key}@${digest}`, { verdict: state, reason });
  const contentType = 'application/vnd.millpond.holds.v1+json';
  const body = { repository: repository.key, digest, state, manifests: digests };
  await sender.send(ctx.res, jsonReply(body, { ...conditionsOf(ctx, exchange), contentType }), exchange);
}
