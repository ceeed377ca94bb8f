import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/error.ts';
import { parseChallenges } from '../../src/upstream/challenge.ts';
import { readCredential } from '../../src/upstream/credentials/read.ts';
import { retryAfterSeconds } from '../../src/upstream/failures.ts';
import { nextQuery, onlySelection, withoutSelection } from '../../src/upstream/link.ts';
import { readRateLimit } from '../../src/upstream/rate-limit.ts';
import { trustedRealm } from '../../src/upstream/realm.ts';
import { damaged, fuzz, textOf } from '../support/fuzz.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

describe('what an upstream sends', () => {
  test('as a challenge is a list of schemes and parameters', async () => {
    const header = textOf('Bearer ', 'Basic ', 'realm', '=', '"', '\\', ',', ' ', 'https://h/t', 'service', 'scope');
    await fuzz(
      [header],
      (text) => {
        for (const { scheme, parameters } of parseChallenges(text)) {
          expect(scheme).toBe(scheme.toLowerCase());
          for (const name of parameters.keys()) expect(name).toMatch(/^[^\s=",A-Z]+$/);
        }
      },
      { runs: 2000 },
    );
  });

  test('as a realm is an address of its own domain, or refused', async () => {
    const realm = textOf(
      'https://',
      'http://',
      'reg.example.com',
      'auth.',
      'evil.test',
      '@',
      ':',
      '443',
      '/',
      '\\',
      '#',
      '?',
      '%00',
      '.',
    );
    const endpoint = new URL('https://reg.example.com');
    await fuzz(
      [realm],
      (text) => {
        let url: URL;
        try {
          url = trustedRealm(text, { upstream: 'x', endpoint, tokenRealms: [] });
        } catch (error) {
          expect(error).toBeInstanceOf(RegistryError);
          return;
        }
        expect(url.protocol).toBe('https:');
        expect(`${url.username}${url.password}`).toBe('');
        expect(`.${url.hostname}`).toMatch(/\.example\.com$/);
      },
      { runs: 2000 },
    );
  });

  test('as Link is a query without what selects an upstream, or nothing', async () => {
    const header = textOf(
      '<',
      '>',
      '/v2/a/tags/list',
      '?',
      'n=1',
      '&',
      'last=b',
      'ns=x',
      'n%73=y',
      ';',
      'rel',
      '=',
      '"',
      'next',
      ',',
      '\\',
      ' ',
      '#',
    );
    await fuzz(
      [
        fc.oneof(
          header,
          header.map((text) => `<?${text}>; rel="next"`),
        ),
      ],
      (text) => {
        const query = nextQuery(text);
        if (query === undefined) return;
        expect(query).not.toBe('');
        expect(onlySelection(query)).toBe('');
        expect(withoutSelection(query)).toBe(query);
      },
      { runs: 2000 },
    );
  });

  test('as Retry-After or a budget of pulls is a count, or nothing', async () => {
    const header = textOf('0', '99', '-', 'Thu, 01 Jan 2026 00:01:00 GMT', ';w=', '21600', ' ', 'soon', 'e9');
    await fuzz(
      [header, header],
      (one, other) => {
        const seconds = retryAfterSeconds(one, 0);
        if (seconds !== undefined) expect(Number.isSafeInteger(seconds) && seconds >= 0).toBe(true);
        const limit = readRateLimit({ 'ratelimit-remaining': one, 'ratelimit-limit': other }, 1);
        if (limit === undefined) return;
        const counts = [limit.remaining, limit.limit ?? 0, limit.windowSeconds ?? 0];
        expect(counts.every((count) => Number.isSafeInteger(count) && count >= 0)).toBe(true);
      },
      { runs: 2000 },
    );
  });
});

describe("Docker's config.json", () => {
  const auth = Buffer.from('user:secret-password').toString('base64');
  const right = Buffer.from(
    JSON.stringify({ auths: { 'reg.example': { auth } }, credHelpers: { 'other.example': 'x' } }),
  );
  const entry = fc.oneof(fc.jsonValue(), fc.record({ auth: fc.oneof(fc.string(), fc.base64String()) }));
  const made = fc
    .record({ auths: fc.oneof(fc.jsonValue(), fc.dictionary(fc.constantFrom('reg.example', 'x'), entry)) })
    .map((value) => Buffer.from(JSON.stringify(value)));

  test('gives a credential, none, or an error that quotes nothing of it', async () => {
    await using folder = await temporaryDirectory('config-json');
    const path = join(folder.path, 'config.json');
    await fuzz(
      [fc.oneof(damaged(right), made)],
      async (bytes) => {
        await writeFile(path, bytes);
        try {
          const read = await readCredential(
            { kind: 'docker-config', path },
            { upstream: 'x', host: 'reg.example', environment: {} },
          );
          if (read !== undefined && 'helper' in read) return;
          const found = read?.credential;
          if (found?.kind === 'basic')
            expect([typeof found.username, typeof found.password]).toEqual(['string', 'string']);
          else if (found) expect(found.token).toBeTypeOf('string');
        } catch (error) {
          expect(error).toBeInstanceOf(RegistryError);
          const said = `${(error as Error).message} ${String((error as Error).cause)}`;
          expect(said).not.toContain('secret-password');
          expect(said).not.toContain(auth);
        }
      },
      { runs: 300 },
    );
  });
});
