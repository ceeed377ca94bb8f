import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { hashSync } from 'bcryptjs';
import { expect, test } from 'vitest';
import { parseHtpasswd } from '../../src/access/htpasswd.ts';
import { startTestSite, temporaryFolder } from '../support/site.ts';
import { basic, htpasswdFile, htpasswdLine } from './support.ts';

const upstreams = { 'registry.test': { origin: 'http://127.0.0.1:1' } };

/** A mirror with users, and what `/v2/` answers to what is shown. */
async function start(stack: AsyncDisposableStack, users: Readonly<Record<string, string>>) {
  const folder = stack.use(await temporaryFolder());
  const file = await htpasswdFile(folder.path, users);
  const site = stack.use(await startTestSite({ upstreams, config: { auth: { htpasswdFile: file } } }));
  const status = async (headers: Readonly<Record<string, string>>): Promise<number> =>
    (await site.get('/v2/', { headers })).status;
  return { site, file, status };
}

test.each([
  ['in clear', 'bob:b-secret'],
  ['as MD5 of Apache', 'bob:$apr1$abcdefgh$1234567890123456789012'],
  ['as SHA-1', 'bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ='],
  ['as DES', 'bob:rqXexS6ZhobKA'],
  ['as SHA-512', 'bob:$6$rounds=5000$abcdefgh$x'],
  ['as bcrypt with a flaw that was never fixed', `bob:${hashSync('b', 4).replace('$2b$', '$2x$')}`],
  ['cut short', htpasswdLine('bob', 'b-secret').slice(0, 40)],
  ['without a name', htpasswdLine('', 'b-secret')],
])('a password that is stored %s is refused with its line, and not shown', (_, line) => {
  const message = /^auth\.htpasswdFile: line 2 is not a user with a bcrypt hash, as htpasswd -B makes$/;
  expect(() => parseHtpasswd(`${htpasswdLine('ann', 'a-secret')}${line}\n`, 'auth.htpasswdFile')).toThrow(message);
});

test('a file from another system is read: with carriage returns, a byte order mark, comments and any bcrypt prefix', () => {
  const [a, b, c] = ['$2a$', '$2b$', '$2y$'].map((prefix) => hashSync('x', 4).replace('$2b$', prefix));
  const written = `\uFEFFann:${a}\r\n# of others\r\n\r\n  bob:${b}  \r\ncaf\u00e9:${c}`;
  expect([...parseHtpasswd(written, 'auth.htpasswdFile')]).toEqual([
    ['ann', a],
    ['bob', b],
    ['caf\u00e9', c],
  ]);
});

test('names of users differ by case, by accents and by the way accents are written', async () => {
  await using stack = new AsyncDisposableStack();
  const { status } = await start(stack, { 'caf\u00e9': 'a-secret', ann: 'a-secret' });
  expect(await status(basic('caf\u00e9', 'a-secret'))).toBe(200);
  for (const user of ['cafe\u0301', 'CAF\u00c9', 'cafe', 'ANN', 'ann ', ' ann', '\uff41nn', 'ann\u200b']) {
    expect([user, await status(basic(user, 'a-secret'))]).toEqual([user, 401]);
  }
  // In another encoding, this is no text.
  const latin = Buffer.from('caf\u00e9:a-secret', 'latin1').toString('base64');
  expect(await status({ authorization: `Basic ${latin}` })).toBe(401);
});

test('a password may have colons, letters of any script and more than 72 bytes, of which bcrypt reads 72', async () => {
  await using stack = new AsyncDisposableStack();
  const users = { ann: 'a:b:c', bob: '\u043f\u0430\u0440\u043e\u043b\u044c', cay: `${'c'.repeat(72)}rest` };
  const { status } = await start(stack, users);
  for (const [user, password] of Object.entries(users)) expect(await status(basic(user, password))).toBe(200);
  expect(await status(basic('ann', 'a:b'))).toBe(401);
  expect(await status(basic('ann:a', 'b:c'))).toBe(200);
  expect(await status(basic('cay', 'c'.repeat(71)))).toBe(401);
});

test('what is no user name and password is refused, and never taken for nothing', async () => {
  await using stack = new AsyncDisposableStack();
  const { status } = await start(stack, { ann: 'a-secret' });
  const encoded = (pair: string): string => Buffer.from(pair).toString('base64');
  const wrong = [
    `Basic ${encoded('ann')}`,
    `Basic ${encoded(':a-secret')}`,
    `Basic ${encoded('ann:')}`,
    `Basic ${encoded('ann:a-secret\n')}`,
    `Basic ${encoded('ann\0:a-secret')}`,
    `Basic ${encoded('ann:a-secret\0a-secret')}`,
    'Basic ====',
    'Basic ann:a-secret',
    'Basic',
    'Bearer',
    `Basic ${encoded('ann:a-secret')}, Basic ${encoded('ann:a-secret')}`,
    `Negotiate ${encoded('ann:a-secret')}`,
    `Basic ${'A'.repeat(9_000)}`,
  ];
  for (const authorization of wrong) {
    expect([authorization.slice(0, 60), await status({ authorization })]).toEqual([authorization.slice(0, 60), 401]);
  }
  expect(await status({ authorization: `bAsIc   ${encoded('ann:a-secret')}  ` })).toBe(200);
});

test('two Authorization headers are no credentials, whichever of them is right', async () => {
  await using stack = new AsyncDisposableStack();
  const { site } = await start(stack, { ann: 'a-secret' });
  const [right, wrong] = [basic('ann', 'a-secret').authorization, basic('ann', 'w').authorization];
  for (const [one, two] of [
    [right, wrong],
    [wrong, right],
    [right, right],
  ] as const) {
    const socket = connect(Number(new URL(site.origin).port), '127.0.0.1');
    socket.write(
      `GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: ${one}\r\naUTHORIZATION: ${two}\r\nConnection: close\r\n\r\n`,
    );
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 401 /);
  }
});

test('a file that is caught half-written changes nothing, and is taken when it is whole', async () => {
  await using stack = new AsyncDisposableStack();
  const { site, file, status } = await start(stack, { ann: 'a-secret' });
  const line = htpasswdLine('bob', 'b-secret');
  await appendFile(file, line.slice(0, 30));
  await expect.poll(() => site.logLines.find(({ problem }) => String(problem).includes('line 2'))).toBeDefined();
  expect(await status(basic('ann', 'a-secret'))).toBe(200);
  await appendFile(file, line.slice(30));
  await expect.poll(() => status(basic('bob', 'b-secret')), { interval: 500 }).toBe(200);
  // An empty one has no users: to lock all of them out has to be possible.
  expect((await readFile(file, 'utf8')).split('\n')).toHaveLength(3);
  await writeFile(file, '');
  await expect.poll(() => status(basic('ann', 'a-secret')), { interval: 500 }).toBe(401);
});
