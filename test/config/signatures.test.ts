import { expect, test } from 'vitest';
import { problemsOf } from './sources.ts';

test.each([
  ['{ repositories: ["a/**"] }', 'accepted: keys, identities, or both'],
  ['{ mode: off, keys: [a.pub] }', 'mode: off goes without keys and identities'],
  ['{ identities: [{ issuer: i, subject: s }] }', 'identities require trustRoot, which is missing'],
  ['{ keys: [a.pub], transparencyLog: true }', 'transparencyLog requires trustRoot, which is missing'],
])('a policy that nothing could be verified by is refused: %s', async (policy, message) => {
  expect(await problemsOf(`upstreams: { a.example: { signatures: [${policy}] } }`)).toEqual([
    `millpond.yaml:1: upstreams."a.example".signatures[0]: ${message}`,
  ]);
});
