import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startMillpond } from '../support/millpond.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

/** What only a mirror with callers, replicas, clouds or signatures needs, or hosted repositories, or a command beside it. */
const unneeded = [
  /\/node_modules\/(?:jose|ioredis|sigstore|@sigstore)\//,
  /\/zod\/v4\/locales\/(?!en\.js)/,
  /\/credentials\/cloud\/(?:acr|ecr|google|jwt)\.ts$/,
  /\/operations\/owner\/(?:archives\/operations|fetch\/fetch|explain\/explanation)\.ts$/,
  /\/hosted\/(?:hosted-registry|uploads|collector)\.ts$/,
];

test('a plain mirror loads no library for what is not configured', async () => {
  await using folder = await temporaryDirectory('plain');
  const [hook, list] = [join(folder.path, 'hook.mjs'), join(folder.path, 'loaded')];
  await writeFile(
    hook,
    `import { appendFileSync } from 'node:fs';
    import { registerHooks } from 'node:module';
    registerHooks({
      load(url, context, next) {
        appendFileSync(${JSON.stringify(list)}, url + '\\n');
        return next(url, context);
      },
    });`,
  );
  const NODE_OPTIONS = `--import ${hook}`;
  await using _mirror = await startMillpond(
    { upstreams: { 'docker.io': { urls: ['http://127.0.0.1:1'] } } },
    { env: { ...process.env, NODE_OPTIONS } },
  );
  const loaded = (await readFile(list, 'utf8')).split('\n');
  expect(loaded.some((url) => url.endsWith('/src/site/site.ts'))).toBe(true);
  expect(loaded.filter((url) => unneeded.some((one) => one.test(url)))).toEqual([]);
});
