import { expect, test } from 'vitest';
import { readImageList } from '../../src/config/image-list.ts';
import { ConfigError } from '../../src/config/problems.ts';

function problemsOf(text: string): readonly string[] {
  try {
    readImageList(text, 'images.yaml');
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

test('a list of images holds names and mappings that say more', () => {
  const text = `
- nginx:1.27
- name: ghcr.io/org/app
  tags: [latest, "2.*", ">=1.4 <2"]
  limit: 5
  platforms: [linux/amd64, linux/aarch64]
  referrers: false
- { name: "registry.example:5443/a/b@sha256:${'0'.repeat(64)}" }
`;
  expect(readImageList(text, 'images.yaml')).toEqual([
    { name: 'nginx:1.27' },
    {
      name: 'ghcr.io/org/app',
      tags: ['latest', '2.*', '>=1.4 <2'],
      limit: 5,
      platforms: ['linux/amd64', 'linux/arm64'],
      referrers: false,
    },
    { name: `registry.example:5443/a/b@sha256:${'0'.repeat(64)}` },
  ]);
});

test.each(['[]', '', '# nothing yet\n', '\uFEFF'])('%j is a list of none', (text) => {
  expect(readImageList(text, 'images.yaml')).toEqual([]);
});

test('a list may begin with the mark that editors of Windows set', () => {
  expect(readImageList('\uFEFF- nginx\r\n- alpine\r\n', 'images.yaml')).toEqual([
    { name: 'nginx' },
    { name: 'alpine' },
  ]);
});

test('entries may share settings by merging them', () => {
  const text = `
- &small { name: nginx, platforms: [linux/amd64], limit: 2 }
- { <<: *small, name: alpine, limit: 1 }
`;
  expect(readImageList(text, 'images.yaml')).toEqual([
    { name: 'nginx', platforms: ['linux/amd64'], limit: 2 },
    { name: 'alpine', platforms: ['linux/amd64'], limit: 1 },
  ]);
});

test.each([
  ['- nginx\n- name: a\n  tag: [x]\n', 'images.yaml:3: unknown key "tag" in [1]; did you mean "tags"?'],
  ['- nginx\n- NGINX\n', 'images.yaml:2: [1].name: found "NGINX"; accepted: the name of an image'],
  ['- 5\n', 'images.yaml:1: [0].name: found 5; accepted: the name of an image'],
  ['-\n', 'images.yaml:1: [0].name: found nothing; accepted: the name of an image'],
  [
    '- name: a\n  tags:\n    - ok\n    - ">=y"\n',
    'images.yaml:4: [0].tags[1]: found ">=y"; accepted: a tag, a pattern',
  ],
  ['- name: a\n  tags: [1.27]\n', 'images.yaml:2: [0].tags[0]: found 1.27; accepted: a tag'],
  ['- name: a\n  tags: []\n', 'images.yaml:2: [0].tags: found an empty list'],
  ['- name: a\n  limit: 0\n', 'images.yaml:2: [0].limit: found 0; accepted: a whole number'],
  ['- name: a\n  platforms: [amd64]\n', 'images.yaml:2: [0].platforms[0]: found "amd64"; accepted: a platform'],
  ['- name: a\n  referrers: yes please\n', 'images.yaml:2: [0].referrers: found "yes please"; accepted: true or false'],
  ['- tags: [x]\n', 'images.yaml:1: [0].name is missing'],
  ['images: []\n', 'images.yaml:1: a list of images is a list'],
  ['- name: a\n- <<: { name: b,\n    limit: 0 }\n', 'images.yaml:3: [1].limit: found 0'],
  ['- <<: *none\n', 'images.yaml:1: an alias (*name) that no anchor (&name) defines'],
  ['- a\n- <<: [1]\n  name: b\n', 'images.yaml:2: a merge (<<) of something else than mappings'],
  ['- "a\n', 'images.yaml:2: '],
])('%j is refused with its line', (text, problem) => {
  expect(problemsOf(text)).toEqual([expect.stringContaining(problem)]);
});
