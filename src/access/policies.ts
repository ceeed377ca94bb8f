import { createHash } from 'node:crypto';
import { matchesGlob, repositoryGlob } from '../oci/glob.ts';
import { addressTest } from './addresses.ts';
import type { Access, Action, Caller, CallerKind } from './caller.ts';
import { claimTexts } from './claims.ts';
import { expanded } from './placeholders.ts';

/** A rule as it is configured. What is empty sets no condition. */
export interface PolicyRule {
  /** For `explain` and the audit log. */
  readonly name?: string | undefined;
  readonly effect: 'allow' | 'deny';
  readonly users: readonly string[];
  readonly groups: readonly string[];
  /** `name=pattern`; all have to hold. */
  readonly claims: readonly string[];
  readonly kinds: readonly CallerKind[];
  /** Whether callers without credentials are meant, too. */
  readonly anonymous: boolean;
  /** Addresses and ranges, such as `10.0.0.0/8`. */
  readonly addresses: readonly string[];
  /** Patterns with placeholders. */
  readonly repositories: readonly string[];
  readonly actions: readonly Action[];
}

/** A decision, and the rule that made it. */
export interface Decision {
  readonly isAllowed: boolean;
  /** Such as `policies[2]`, with the name of the rule where it has one. */
  readonly rule: string;
}

interface CompiledRule extends PolicyRule {
  readonly label: string;
  readonly isAt: (address: string) => boolean;
}

/** Most decisions that are remembered for one caller. */
const maxRemembered = 500;
/** Most patterns without placeholders and with, whose compiled form is kept. */
const maxPatterns = 2_000;

/** The rights of callers, by the rules of one configuration: the first that matches decides. */
export class Policies implements Access {
  readonly #rules: readonly CompiledRule[];
  readonly #isAnonymousLetIn: boolean;
  readonly #remembered = new WeakMap<Caller, Map<string, Decision>>();
  readonly #patterns = new Map<string, (name: string) => boolean>();

  /** Changes with the rules. */
  readonly mark: string;

  constructor({ policies, anonymous }: { readonly policies: readonly PolicyRule[]; readonly anonymous: boolean }) {
    this.#isAnonymousLetIn = anonymous;
    this.mark = createHash('sha256').update(JSON.stringify(policies)).digest('base64url').slice(0, 12);
    this.#rules = policies.map((rule, index) => ({
      ...rule,
      label: rule.name === undefined ? `policies[${index}]` : `policies[${index}] (${rule.name})`,
      isAt: addressTest(rule.addresses),
    }));
  }

  may(caller: Caller | undefined, action: Action, repository: string | undefined): boolean {
    return caller === undefined || this.decide(caller, action, repository).isAllowed;
  }

  /** Whether a caller may do something, and which rule says so. */
  decide(caller: Caller, action: Action, repository: string | undefined): Decision {
    let known = this.#remembered.get(caller);
    if (known === undefined || known.size >= maxRemembered) this.#remembered.set(caller, (known = new Map()));
    const key = `${action} ${repository ?? ''}`;
    let decision = known.get(key);
    if (decision === undefined) known.set(key, (decision = this.#decide(caller, action, repository)));
    return decision;
  }

  /** A caller with only what these rules look at: what an issuer says can be long. */
  trimmed(caller: Caller): Caller {
    const names = new Set<string>();
    for (const { claims, repositories } of this.#rules) {
      for (const condition of claims) names.add(condition.slice(0, condition.indexOf('=')));
      for (const [, name = ''] of repositories.join(' ').matchAll(/\{claim\.([^{}]+)\}/g)) names.add(name);
    }
    const usesAny = this.#rules.some(({ repositories }) => repositories.some((one) => one.includes('{group}')));
    const globs = this.#rules.flatMap(({ groups }) => groups);
    return {
      ...caller,
      groups: caller.groups.filter((group) => usesAny || globs.some((glob) => matchesGlob(glob, group))),
      claims: Object.fromEntries([...names].map((name) => [name, claimTexts(caller.claims, name)])),
    };
  }

  #decide(caller: Caller, action: Action, repository: string | undefined): Decision {
    if (caller.kind === 'anonymous' && !this.#isAnonymousLetIn) return denied('anonymous: false');
    if (caller.scope && !this.#isInScope(caller.scope, action, repository)) return denied('the scope of the key');
    if (this.#rules.length === 0) return withoutRules(caller, action);
    for (const rule of this.#rules) {
      if (!rule.actions.includes(action) || !isMeant(rule, caller) || !this.#covers(rule, caller, repository)) continue;
      return { isAllowed: rule.effect === 'allow', rule: rule.label };
    }
    return denied('no policy allows it');
  }

  #covers({ repositories }: PolicyRule, caller: Caller, repository: string | undefined): boolean {
    if (repository === undefined) return repositories.includes('**');
    return repositories.some((pattern) => expanded(pattern, caller).some((one) => this.#fits(one, repository)));
  }

  #isInScope(scope: NonNullable<Caller['scope']>, action: Action, repository: string | undefined): boolean {
    if (!scope.actions.includes(action)) return false;
    if (repository === undefined) return scope.repositories.includes('**');
    return scope.repositories.some((pattern) => this.#fits(pattern, repository));
  }

  #fits(pattern: string, repository: string): boolean {
    let fits = this.#patterns.get(pattern);
    if (fits === undefined) {
      if (this.#patterns.size >= maxPatterns) this.#patterns.clear();
      this.#patterns.set(pattern, (fits = repositoryGlob(pattern)));
    }
    return fits(repository);
  }
}

/** Callers with credentials may do everything but administer; others may read. */
function withoutRules({ kind, scope }: Caller, action: Action): Decision {
  const isRead = action === 'pull' || action === 'search';
  const isAllowed = isRead || (kind !== 'anonymous' && (action !== 'administer' || scope !== undefined));
  return { isAllowed, rule: 'no policies are configured' };
}

function isMeant(rule: CompiledRule, caller: Caller): boolean {
  const { users, groups, claims, kinds, anonymous } = rule;
  if (!rule.isAt(caller.address)) return false;
  if (caller.kind === 'anonymous') return anonymous;
  if (kinds.length > 0 && !kinds.includes(caller.kind)) return false;
  if (users.length + groups.length > 0) {
    const isNamed = users.some((glob) => matchesGlob(glob, caller.name));
    if (!isNamed && !groups.some((glob) => caller.groups.some((group) => matchesGlob(glob, group)))) return false;
  }
  return claims.every((condition) => holds(condition, caller));
}

function holds(condition: string, { claims }: Caller): boolean {
  const equals = condition.indexOf('=');
  const glob = condition.slice(equals + 1);
  return claimTexts(claims, condition.slice(0, equals)).some((text) => matchesGlob(glob, text));
}

function denied(rule: string): Decision {
  return { isAllowed: false, rule };
}
