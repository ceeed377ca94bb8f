import { expect, test } from 'vitest';
import { ConfigError } from '../../src/config/problems.ts';
import { workloadImages } from '../../src/config/workload-images.ts';

const rendered = `---
# Source: chart/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
spec:
  template:
    spec:
      initContainers:
        - name: init
          image: "busybox:1.37"   # image: not/this
      containers:
        - { name: app, image: ghcr.io/org/app:2.1 }
        - name: sidecar
          image: busybox:1.37
      volumes:
        - name: model
          image: { reference: "quay.io/org/model:1", pullPolicy: IfNotPresent }
      ephemeralContainers:
        - image: registry.example:5443/debug@sha256:${'a'.repeat(64)}
---
# Source: chart/templates/empty.yaml
---
apiVersion: v1
kind: List
items:
  - kind: Pod
    spec: &spec
      containers: [{ image: quay.io/x/y }]
  - kind: Pod
    spec: *spec
---
kind: Prometheus
apiVersion: monitoring.example/v1
spec:
  image: quay.io/prometheus/prometheus:v3
  thanos:
    image: { registry: quay.io, repository: thanos/thanos, tag: v0.39, pullPolicy: Always }
  other:
    image: { type: string }
    imageName: not/this
  strange: !custom { image: library/odd }
---
kind: CustomResourceDefinition
spec: { properties: { image: { type: string, description: "NOT an image" } } }
---
image: "Not An Image"
`;

test('every image of rendered manifests is found once, wherever it stands', () => {
  expect(workloadImages(rendered, '-')).toEqual([
    'docker.io/busybox:1.37',
    'ghcr.io/org/app:2.1',
    'quay.io/org/model:1',
    `registry.example:5443/debug@sha256:${'a'.repeat(64)}`,
    'quay.io/x/y',
    'quay.io/prometheus/prometheus:v3',
    'quay.io/thanos/thanos:v0.39',
    'docker.io/library/odd',
  ]);
  expect(workloadImages('', '-')).toEqual([]);
  expect(workloadImages('{"kind":"Pod","spec":{"containers":[{"image":"a/b"}]}}', '-')).toEqual(['docker.io/a/b']);
});

test('a tag is the text that stands there, also where it looks like a number', () => {
  const image = (tag: string): string => `image: { repository: org/app, tag: ${tag} }`;
  const texts = ['1', '1.10', '20260101', '0x1f', '1e3', 'true', '"2.0"', 'null', '~', '""'];
  expect(texts.map((tag) => workloadImages(image(tag), '-'))).toEqual([
    ...['1', '1.10', '20260101', '0x1f', '1e3', 'true', '2.0'].map((tag) => [`docker.io/org/app:${tag}`]),
    ...['null', '~', '""'].map(() => ['docker.io/org/app']),
  ]);
  expect(workloadImages(`version: &version 1.20\n${image('*version')}`, '-')).toEqual(['docker.io/org/app:1.20']);
  expect(workloadImages('image: 5', '-')).toEqual([]);
});

test('what holds itself comes to an end', () => {
  expect(workloadImages('a: &a\n  image: x/y\n  b: *a\n', '-')).toEqual(['docker.io/x/y']);
});

test.each([
  ['kind: Pod\nspec: {{ .Values.spec }}\nmetadata: [\n', /^pod\.yaml:\d+: /],
  [
    `a: &a [x, x, x, x, x, x, x, x, x, x]\n${'bcdefghij'
      .split('')
      .map((name, index) => `${name}: &${name} [${`*${'abcdefghi'[index]}, `.repeat(10)}]`)
      .join('\n')}\n`,
    /^pod\.yaml:\d+: an alias/,
  ],
])('what is not YAML, or only to do harm, is refused with its line', (text, problem) => {
  expect(() => workloadImages(text, 'pod.yaml')).toThrow(ConfigError);
  expect(() => workloadImages(text, 'pod.yaml')).toThrow(problem);
});
