import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ProbeStep } from '../../src/operations/command/probe/steps.ts';
import { makeAuthority } from '../support/certificates.ts';
import { type CommandResult, runCommand } from '../support/commands.ts';
import { startRegistry } from '../support/registry.ts';
import { temporaryFolder } from '../support/site.ts';

interface Report {
  readonly ok: boolean;
  readonly urls: readonly { readonly url: string; readonly steps: readonly ProbeStep[] }[];
}

/** A folder whose configuration has one upstream, `reg.example`. */
async function place(upstream: object, more: object = {}) {
  const folder = await temporaryFolder();
  await writeFile(
    join(folder.path, 'millpond.yaml'),
    JSON.stringify({ upstreams: { 'reg.example': upstream }, ...more }),
  );
  const probe = (...args: readonly string[]): Promise<CommandResult> => runCommand(['probe', ...args], folder.path);
  return {
    path: folder.path,
    probe,
    /** The steps by their names, and the whole output. */
    async report(...args: readonly string[]) {
      const { code, stdout, stderr } = await probe('reg.example', ...args, '--json');
      const report = JSON.parse(stdout) as Report;
      const steps = Object.fromEntries(report.urls[0]!.steps.map((step) => [step.name, step]));
      return { code, stdout, stderr, report, steps };
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

const credentials = { username: 'me', password: 's3cret-pass' };

describe('millpond probe', () => {
  test('walks through all that a pull does, and every step is right', async () => {
    await using upstream = await startRegistry({
      token: { credentials },
      headers: { 'ratelimit-limit': '100;w=21600', 'ratelimit-remaining': '99;w=21600' },
    });
    const image = upstream.addImage('org/app', '1', { layers: [{ size: 100_000 }] });
    for (const { digest } of image.layers) upstream.fault(digest, { kind: 'redirect', reusable: true });
    upstream.fault(image.config.digest, { kind: 'redirect', reusable: true });
    await using here = await place({ urls: [upstream.origin], auth: credentials });
    const { code, stderr, stdout, report, steps } = await here.report('org/app:1');
    expect([code, stderr, report.ok]).toEqual([0, '', true]);
    const names = [
      ['names', 'ping', 'credential', 'token', 'head', 'get', 'digest', 'type', 'by digest', 'blob head', 'blob'],
      ['redirects', 'ranges', 'tags', 'referrers', 'limits', 'behaviour'],
    ].flat();
    expect(Object.values(steps).map(({ name, result }) => [name, result])).toEqual(names.map((name) => [name, 'ok']));
    expect(steps['digest']?.text).toBe(`${image.digest}, as the registry says`);
    expect(steps['redirects']?.text).toContain(`blobs come from ${upstream.cdn.host}`);
    expect(steps['limits']?.text).toBe('99;w=21600 left of 100;w=21600');
    expect(steps['head']?.exchanges.map(({ status }) => status)).toEqual([401, 200]);
    expect(steps['credential']?.text).toBe('user me, password from the configuration');
    expect(steps['token']?.text).toContain('answers 200 with the credentials');
    // No credential, no token, no signature.
    expect(stdout).not.toContain('s3cret-pass');
    expect(stdout).not.toContain(Buffer.from('me:s3cret-pass').toString('base64'));
    for (const token of upstream.requests.flatMap(({ headers }) => headers.authorization ?? [])) {
      expect(stdout).not.toContain(token.split(' ')[1]);
    }
    for (const { path } of upstream.cdn.requests) expect(stdout).not.toContain(path.split('?')[1] ?? path);
    expect(steps['blob']?.exchanges.map(({ status, authorization }) => [status, authorization])).toEqual([
      [307, 'bearer'],
      [200, 'none'],
    ]);
  });

  test('says in text which line of the configuration would help', async () => {
    await using upstream = await startRegistry({ basic: credentials });
    upstream.addImage('org/app', '1');
    await using here = await place({ urls: [upstream.origin] });
    const refused = await here.probe('reg.example', 'org/app:1', '--verbose');
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^millpond: reg\.example: .*get failed\n$/),
    });
    expect(refused.stdout).toMatch(
      /^reg\.example {2}http:\/\/127\.0\.0\.1:\d+\/?\nok {7}names {7}127\.0\.0\.1 is an address\n/,
    );
    expect(refused.stdout).toContain('→ upstreams.reg.example.auth: { username: …, passwordFile: … }');
    expect(refused.stdout).toMatch(
      /> HEAD http:\/\/127\.0\.0\.1:\d+\/v2\/org\/app\/manifests\/1 \(127\.0\.0\.1:\d+\)\n +< 401 after \d+ ms\n/,
    );
  });

  test('tells of HEAD that is refused, where GET is not', async () => {
    await using upstream = await startRegistry();
    upstream.addImage('org/app', '1');
    upstream.fault(({ method }) => method === 'HEAD', { kind: 'status', status: 403 });
    await using here = await place({ urls: [upstream.origin] });
    const { code, steps } = await here.report('org/app:1');
    expect(steps['head']).toMatchObject({ result: 'warning', text: expect.stringContaining('HEAD is refused (403)') });
    expect(steps['get']?.exchanges).toMatchObject([{ method: 'GET', status: 200 }]);
    expect([code, steps['blob head']]).toEqual([0, expect.objectContaining({ result: 'warning' })]);
  });

  test('tells of ranges that are ignored, digests that are not sent or wrong, and a missing referrers API', async () => {
    await using upstream = await startRegistry({ digestHeader: false, referrers: false });
    const image = upstream.addImage('org/app', '1', { layers: [{ size: 100_000 }] });
    upstream.fault(image.layers[0]!.digest, { kind: 'ignore-range' });
    await using here = await place({ urls: [upstream.origin] });
    const { steps } = await here.report('org/app:1');
    expect(steps['ranges']).toMatchObject({ result: 'warning', text: expect.stringContaining('Range is ignored') });
    expect(steps['digest']).toMatchObject({ result: 'ok', text: expect.stringContaining('is not sent') });
    expect(steps['referrers']).toMatchObject({ result: 'ok', text: expect.stringContaining('no referrers API') });
    upstream.fault(image.config.digest, { kind: 'flip' });
    expect((await here.report('org/app:1')).steps['blob']).toMatchObject({ result: 'failed' });
  });

  test('names the certificate authority that is missing, and goes through with it', async () => {
    await using folder = await temporaryFolder();
    const authority = await makeAuthority(folder.path, 'authority');
    // Two days are too few to be left alone.
    const { cert, key } = await authority.issue('server');
    await using upstream = await startRegistry({ tls: { cert, key } });
    upstream.addImage('org/app', '1');
    await using without = await place({ urls: [upstream.origin] });
    const { code, steps } = await without.report('org/app:1');
    expect(code).toBe(1);
    expect(steps['tls']).toMatchObject({ result: 'failed' });
    expect(steps['ping']).toMatchObject({
      result: 'failed',
      advice: 'upstreams.reg.example.tls: { caFile: /path/of/the/authority.pem }',
    });
    expect(Object.keys(steps)).toEqual(['names', 'tls', 'ping']);
    await using here = await place({ urls: [upstream.origin], tls: { caFile: authority.certFile } });
    const trusted = await here.report('org/app:1');
    expect(trusted.code).toBe(0);
    expect(trusted.steps['tls']).toMatchObject({
      result: 'warning',
      text: expect.stringMatching(/^TLSv1\.3, certificate of server by authority, until /),
      advice: 'the certificate expires within two weeks',
    });
  });

  test('tells apart a name that is not there, a port where nothing listens, and the wrong scheme', async () => {
    await using unknown = await place({ urls: ['https://nowhere.invalid'] });
    expect((await unknown.report()).steps['names']).toMatchObject({
      result: 'failed',
      advice: expect.stringContaining('DNS'),
    });
    const closed = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => closed.once('listening', resolve));
    const { port } = closed.address() as { port: number };
    await new Promise((resolve) => closed.close(resolve));
    await using refused = await place({ urls: [`http://127.0.0.1:${port}`] });
    expect((await refused.report()).steps['ping']).toMatchObject({
      advice: expect.stringContaining('nothing listens there'),
    });
    await using upstream = await startRegistry();
    await using plain = await place({ urls: [upstream.origin.replace('http:', 'https:')] });
    expect((await plain.report()).steps['ping']).toMatchObject({
      result: 'failed',
      advice: expect.stringContaining(`upstreams.reg.example.urls: [${upstream.origin}]`),
    });
  });

  test('is wrong usage, or refused, where there is nothing to ask', async () => {
    await using offline = await place({ urls: ['http://127.0.0.1:1'] }, { offline: true });
    expect(await offline.probe('reg.example')).toMatchObject({ code: 1, stderr: expect.stringContaining('offline') });
    await using here = await place({ urls: ['http://127.0.0.1:1'], repositories: { allow: ['org/*'] } });
    expect(await here.probe('other.example')).toMatchObject({
      code: 1,
      stderr: 'millpond: "other.example" is not a configured upstream; configured: reg.example\n',
    });
    expect(await here.probe('reg.example', 'Upper')).toMatchObject({ code: 2 });
    expect(await here.probe('reg.example', 'secret/app')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('does not allow secret/app'),
    });
    expect(await here.probe()).toMatchObject({ code: 2 });
  });
});
