import { RegistryError } from '../oci/error.ts';
import type { Action, Caller, CallerKind } from './caller.ts';
import type { KeyStore } from './key-store.ts';
import { Policies, type PolicyRule } from './policies.ts';

/** The decision of the policies about a caller and one repository. */
export interface ExplainedAccess {
  readonly caller: string;
  readonly kind: CallerKind;
  readonly decisions: readonly { readonly action: Action; readonly allowed: boolean; readonly rule: string }[];
}

const actions: readonly Action[] = ['pull', 'push', 'delete', 'search', 'administer'];

/**
 * Explains what the policies say.
 * @param who as a person writes it: `ann`, `anonymous`, `key:ci`, `certificate:node-1`, with attributes behind commas:
 *   `ann,group=dev,claim.ref=refs/heads/main,address=10.0.0.1`
 * @returns `undefined` where callers are not distinguished
 * @throws RegistryError where `who` cannot be read
 */
export function explainAccess(
  who: string,
  repository: string,
  {
    settings,
    keys,
  }: {
    readonly settings: { readonly policies: readonly PolicyRule[]; readonly anonymous: boolean } | undefined;
    readonly keys: KeyStore;
  },
): ExplainedAccess | undefined {
  if (!settings) return undefined;
  const caller = parseCaller(who, keys);
  const policies = new Policies(settings);
  const decisions = actions.map((action) => {
    const { isAllowed, rule } = policies.decide(caller, action, repository);
    return { action, allowed: isAllowed, rule };
  });
  return { caller: caller.name, kind: caller.kind, decisions };
}

function parseCaller(who: string, keys: KeyStore): Caller {
  const [subject = '', ...attributes] = who.split(',');
  const [, word, name = ''] = /^(?:(user|certificate|key):)?(.+)$/.exec(subject) ?? [];
  const kind = subject === 'anonymous' ? 'anonymous' : ((word ?? 'user') as CallerKind);
  const groups: string[] = [];
  const claims: Record<string, string[]> = {};
  let address = '127.0.0.1';
  for (const attribute of attributes) {
    const [, key = '', value = ''] = /^(group|address|claim\.[^=]+)=(.+)$/.exec(attribute) ?? [];
    if (key === 'group') groups.push(value);
    else if (key === 'address') address = value;
    else if (key !== '') (claims[key.slice('claim.'.length)] ??= []).push(value);
    else throw unreadable(attribute);
  }
  if (name === '') throw unreadable(who);
  const key = kind === 'key' ? keys.list().find((one) => one.name === name) : undefined;
  if (kind === 'key' && !key) throw new RegistryError('bad-name', `there is no key ${name}`);
  const scope = key && { repositories: key.repositories, actions: key.actions };
  return { kind, name, groups, claims, address, scope };
}

function unreadable(text: string): RegistryError {
  return new RegistryError(
    'bad-name',
    `"${text}" is no caller; accepted: NAME, anonymous, key:NAME or certificate:NAME, then ,group=… ,claim.NAME=… ,address=…`,
  );
}
