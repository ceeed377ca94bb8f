import { createHash } from 'node:crypto';
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, test } from 'vitest';
import { makeAuthority } from '../support/certificates.ts';
import { get } from '../support/client.ts';
import { startMillpond } from '../support/millpond.ts';
import { startRegistry } from '../support/registry.ts';
import { startTestSite } from '../support/site.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';
import { describeWith } from '../support/tools.ts';

/** The certificate that a server shows. */
function shown(host: string): Promise<string> {
  const [name = '', port] = host.split(':');
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ host: name, port: Number(port), rejectUnauthorized: false }, () => {
    resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '');
    socket.destroy();
  });
  socket.once('error', reject);
  return promise;
}

function fingerprint(pem: string): string {
  const der = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  return createHash('sha256').update(der).digest('hex').toUpperCase().match(/../g)!.join(':');
}

describeWith(['openssl'], 'certificates in files', () => {
  test('of the mirror are taken when they change, without a signal; a transfer under way goes on', async () => {
    await using folder = await temporaryDirectory('renewed');
    const authority = await makeAuthority(folder.path, 'authority');
    const [first, second] = [await authority.issue('first'), await authority.issue('second')];
    const tls = { certFile: join(folder.path, 'tls.crt'), keyFile: join(folder.path, 'tls.key') };
    const put = async ({ certFile, keyFile }: typeof first): Promise<void> => {
      await copyFile(certFile, tls.certFile);
      await copyFile(keyFile, tls.keyFile);
    };
    await put(first);
    await using upstream = await startRegistry();
    const blob = upstream.addBlob({ size: 2_000_000, seed: 'renewed' });
    const stalled = upstream.fault(blob.digest, { kind: 'stall', afterBytes: 1_000_000 });
    await using mirror = await startMillpond({ tls, upstreams: { 'docker.io': { urls: [upstream.origin] } } });
    expect(await shown(mirror.host)).toBe(fingerprint(first.cert));
    const ca = authority.cert;
    const pull = get(`https://${mirror.host}/v2/library/app/blobs/${blob.digest}`, { ca });
    await stalled.reached;
    await put(second);
    await expect.poll(() => shown(mirror.host)).toBe(fingerprint(second.cert));
    stalled.release();
    expect(await pull).toMatchObject({ complete: true, sha256: blob.digest });
    // A key that does not fit changes nothing, and is reported.
    await copyFile(first.keyFile, tls.keyFile);
    await mirror.process.untilOutput(/"problem":"tls: the certificate.+cannot be used/);
    expect(await shown(mirror.host)).toBe(fingerprint(second.cert));
    const metrics = (await get(`https://${mirror.host}/metrics`, { ca })).body.toString();
    const expiry = /millpond_certificate_expiry_timestamp_seconds\{key="tls.certFile"\} (\d+)/.exec(metrics)?.[1];
    expect(Number(expiry)).toBeGreaterThan(Date.now() / 1000 + 86_400);
  });

  test('of an upstream are taken when they change', async () => {
    await using folder = await temporaryDirectory('renewed');
    const authority = await makeAuthority(folder.path, 'authority');
    const stranger = await makeAuthority(folder.path, 'stranger');
    const { cert, key } = await authority.issue('registry');
    await using upstream = await startRegistry({ tls: { cert, key } });
    const image = upstream.addImage('library/app', 'v1');
    const caFile = join(folder.path, 'ca.pem');
    await copyFile(stranger.certFile, caFile);
    await using site = await startTestSite({
      upstreams: { 'docker.io': { urls: [upstream.origin], tls: { caFile } } },
      config: { cache: { negativeTtl: 0 } },
    });
    expect((await site.get('/v2/library/app/manifests/v1')).status).toBe(502);
    await copyFile(authority.certFile, caFile);
    await expect.poll(async () => (await site.get('/v2/library/app/manifests/v1')).sha256).toBe(image.digest);
  });
});

test('missing credentials are reported at the start, by readyz and until they are there', async () => {
  await using folder = await temporaryDirectory('credentials');
  const passwordFile = join(folder.path, 'password');
  const auth = { username: 'me' };
  await using site = await startTestSite({
    upstreams: {
      'a.example': { auth: { ...auth, passwordFile } },
      'b.example': { auth: { ...auth, passwordEnv: 'MILLPOND_NOT_SET' } },
    },
  });
  const reasons = async (): Promise<string[]> =>
    (JSON.parse((await site.get('/readyz')).body.toString()) as { reasons: string[] }).reasons;
  const missing = `upstreams."a.example".auth.passwordFile: ${passwordFile} cannot be read: ENOENT`;
  const unset = 'upstream b.example has its password in MILLPOND_NOT_SET, which is not set';
  await expect.poll(reasons).toEqual([missing, expect.stringContaining(unset)]);
  expect(site.logLines.filter(({ msg }) => msg === 'file cannot be used').map(({ problem }) => problem)).toEqual([
    missing,
    expect.stringContaining(unset),
  ]);
  await writeFile(passwordFile, '');
  await expect.poll(reasons).toContainEqual(expect.stringContaining('is empty'));
  await writeFile(passwordFile, 'secret\n');
  await expect.poll(reasons).toEqual([expect.stringContaining(unset)]);
  expect(await readFile(passwordFile, 'utf8')).toBe('secret\n');
});
