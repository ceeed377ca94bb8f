import { expect, test } from 'vitest';
import { addressTest } from '../../src/access/addresses.ts';
import { anonymousCaller, type Caller, userCaller } from '../../src/access/caller.ts';
import { Policies, type PolicyRule } from '../../src/access/policies.ts';

const empty: PolicyRule = {
  effect: 'allow',
  users: [],
  groups: [],
  claims: [],
  kinds: [],
  anonymous: false,
  addresses: [],
  repositories: ['**'],
  actions: ['pull'],
};

const ann = userCaller('ann', '127.0.0.1');

function policiesOf(...rules: readonly Partial<PolicyRule>[]): Policies {
  return new Policies({ anonymous: true, policies: rules.map((rule) => ({ ...empty, ...rule })) });
}

/** The repositories of these that a caller may pull from. */
function pulled(policies: Policies, caller: Caller, repositories: readonly string[]): readonly string[] {
  return repositories.filter((repository) => policies.may(caller, 'pull', repository));
}

test('the first rule that matches decides, whatever follows', () => {
  const deny = { repositories: ['local/secret/**'], effect: 'deny' } as const;
  const allow = { repositories: ['local/**'] };
  const repositories = ['local/secret/app', 'local/app', 'other/app'];
  expect(pulled(policiesOf(deny, allow), ann, repositories)).toEqual(['local/app']);
  expect(pulled(policiesOf(allow, deny), ann, repositories)).toEqual(['local/secret/app', 'local/app']);
  expect(pulled(policiesOf(deny), ann, repositories)).toEqual([]);
  const { isAllowed, rule } = policiesOf({ ...deny, name: 'secrets' }, allow).decide(ann, 'pull', 'local/secret/app');
  expect([isAllowed, rule]).toEqual([false, 'policies[0] (secrets)']);
});

test('a pattern means whole parts of a name: what only begins or ends like it is another repository', () => {
  const policies = policiesOf({ repositories: ['local/team/**', 'docker.io/library/alpine', 'quay.io/*/app'] });
  const given = ['local/team/app', 'local/team/a/b', 'docker.io/library/alpine', 'quay.io/org/app'];
  const others = [
    'local/team2/app',
    'local/team-evil/app',
    'evil/local/team/app',
    'local/teams',
    'docker.io/library/alpine2',
    'docker.io/library/alpine/x',
    'docker.io.evil.test/library/alpine',
    'quay.io/org/sub/app',
    'quay.io/app',
  ];
  expect(pulled(policies, ann, [...given, ...others])).toEqual(given);
});

test('names of users, groups and claims are compared letter by letter', () => {
  const caller = { ...ann, name: 'caf\u00e9', groups: ['dev'], claims: { team: 'Stra\u00dfe' } };
  const may = (rule: Partial<PolicyRule>): boolean => policiesOf(rule).may(caller, 'pull', 'x');
  for (const user of ['caf\u00e9', 'caf*', '*\u00e9', '*'])
    expect([user, may({ users: [user] })]).toEqual([user, true]);
  for (const user of ['cafe\u0301', 'CAF\u00c9', 'Caf\u00e9', 'cafe', 'caf', 'caf\u00e9 ', 'caf?', '.*']) {
    expect([user, may({ users: [user] })]).toEqual([user, false]);
  }
  for (const group of ['DEV', 'dev ', 'de', '\uff44ev', '\u0501ev']) expect(may({ groups: [group] })).toBe(false);
  for (const claim of ['team=STRASSE', 'team=strasse', 'team=stra\u00dfe', 'Team=Stra\u00dfe', 'team=']) {
    expect([claim, may({ claims: [claim] })]).toEqual([claim, false]);
  }
  expect(may({ claims: ['team=Stra\u00dfe'] })).toBe(true);
});

test.each<[string, unknown, readonly string[]]>([
  ['a name', 'red', ['local/red/app']],
  ['a name with slashes', 'red/blue', ['local/red/blue/app']],
  ['a list', ['red', 'blue'], ['local/red/app', 'local/blue/app']],
  ['a number', 7, ['local/7/app']],
  ['an asterisk', '*', []],
  ['asterisks in a name', 'r*', []],
  ['a pattern over everything', '**', []],
  ['a list of patterns and a name', ['**', 'red'], ['local/red/app']],
  ['nothing', '', []],
  ['an empty list', [], []],
  ['an object', { red: true }, []],
  ['null', null, []],
  ['a way up', '..', []],
  ['a way up behind a name', 'red/..', []],
  ['a slash at the end', 'red/', []],
  ['a slash at the beginning', '/red', []],
  ['an escape', 'r%65d', []],
  ['capitals', 'RED', []],
  ['letters that look alike', 'r\u0435d', []],
  ['another placeholder', '{claim.other}', []],
  ['a line feed behind a name', 'red\n', []],
  ['a tag behind a name', 'red:v1', []],
])('a claim that is %s opens the repositories that it names and no others', (_, value, wanted) => {
  const all = ['local/red/app', 'local/blue/app', 'local/red/blue/app', 'local/7/app', 'local/app', 'other/app'];
  const policies = policiesOf({ repositories: ['local/{claim.team}/**'] });
  const caller = { ...ann, claims: { team: value, other: 'blue' } };
  expect(pulled(policies, caller, all)).toEqual(wanted.length === 0 ? [] : all.filter((one) => matches(one, wanted)));
  // A token keeps only what the policies look at.
  expect(pulled(policies, policies.trimmed(caller), all)).toEqual(pulled(policies, caller, all));
});

/** A value with a slash opens what is below it, and one without opens that too. */
function matches(repository: string, wanted: readonly string[]): boolean {
  return wanted.some((one) => repository.startsWith(one.slice(0, one.lastIndexOf('/') + 1)));
}

test('a placeholder stands for nothing of a caller without credentials, or with the prefix of an issuer', () => {
  const policies = policiesOf({ repositories: ['local/{user}/**'], anonymous: true });
  expect(policies.may(ann, 'pull', 'local/ann/app')).toBe(true);
  expect(policies.may(anonymousCaller('127.0.0.1'), 'pull', 'local/anonymous/app')).toBe(false);
  const guest = { ...ann, kind: 'guest', name: 'registry.test:ann' } as const;
  expect(pulled(policies, guest, ['local/ann/app', 'local/registry.test/app'])).toEqual([]);
});

test('a rule with a claim that the caller does not have matches nothing, whatever the claim inherits', () => {
  for (const claim of ['constructor=*', '__proto__=*', 'toString=*', 'a.b=*', 'length=*']) {
    const policies = policiesOf({ claims: [claim] });
    for (const claims of [{}, { a: 'text' }, { a: ['b'] }]) {
      expect([claim, policies.may({ ...ann, claims }, 'pull', 'x')]).toEqual([claim, false]);
    }
  }
});

test.each<[string, string, boolean]>([
  ['10.0.0.0/8', '10.1.2.3', true],
  ['10.0.0.0/8', '11.1.2.3', false],
  ['10.0.0.0/8', '::ffff:10.1.2.3', true],
  ['10.0.0.0/8', '::ffff:a01:203', true],
  ['10.0.0.0/8', '::10.1.2.3', false],
  ['10.0.0.0/8', '64:ff9b::a01:203', false],
  ['10.0.0.0/8', 'unknown', false],
  ['10.0.0.0/8', '', false],
  ['0.0.0.0/0', '8.8.8.8', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['::ffff:10.0.0.0/104', '10.1.2.3', true],
  ['::ffff:10.0.0.0/104', '11.1.2.3', false],
  ['::ffff:10.1.2.3', '10.1.2.3', true],
  ['::ffff:10.1.2.3/128', '10.1.2.4', false],
  ['::/0', '2001:db8::1', true],
  ['2001:db8::/32', '2001:0DB8:0:0::1', true],
  ['2001:db8::/32', '2001:db9::1', false],
  ['fe80::/10', 'fe80::1%eth0', true],
  ['127.0.0.1', '127.0.0.1', true],
  ['127.0.0.1', '127.0.0.2', false],
  ['10.1.2.3/8', '10.200.0.1', true],
])('the range %s and the address %s: %s', (range, address, isIn) => {
  expect(addressTest([range])(address)).toBe(isIn);
  expect(policiesOf({ addresses: [range] }).may({ ...ann, address }, 'pull', 'x')).toBe(isIn);
});
