import { expect, test } from 'vitest';
import { loadConfigApart } from '../../src/config/load-apart.ts';
import { ConfigError } from '../../src/config/problems.ts';
import { ConfigFolder } from './sources.ts';

test('a configuration that is loaded in a thread of its own is the same, its secrets too', async () => {
  await using folder = await ConfigFolder.create();
  const many = Array.from(
    { length: 250 },
    (_, index) => `  r${index}.example: { auth: { username: u, password: p${index} } }`,
  );
  const file = await folder.write(
    'millpond.yaml',
    `redis: { url: "redis://:pw@127.0.0.1:6379" }\ncluster: { secretFile: s }\nupstreams:\n${many.join('\n')}\n`,
  );
  const sources = {
    flags: { config: file },
    environment: { MILLPOND_LISTEN: '127.0.0.1:7' },
    workingDirectory: folder.path,
  };
  const { config } = await loadConfigApart(sources);
  const loaded = await folder.load(sources);
  expect(config).toEqual(loaded.config);
  expect(config.redis?.url.password?.reveal()).toBe('pw');
  expect(config.upstreams.map(({ auth }) => auth?.password?.reveal())).toEqual(
    loaded.config.upstreams.map(({ auth }) => auth?.password?.reveal()),
  );
});

test('its problems are the same', async () => {
  await using folder = await ConfigFolder.create();
  await folder.write('millpond.yaml', 'listn: :1\nofline: true\n');
  const sources = { flags: {}, environment: {}, workingDirectory: folder.path };
  const problemsOf = async (load: () => Promise<unknown>): Promise<unknown> => {
    const error: unknown = await load().catch((caught: unknown) => caught);
    return error instanceof ConfigError && error.problems;
  };
  const problems = await problemsOf(() => loadConfigApart(sources));
  expect(problems).toHaveLength(2);
  expect(problems).toEqual(await problemsOf(() => folder.load()));
});
