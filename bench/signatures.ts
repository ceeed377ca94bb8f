import { createHash } from 'node:crypto';
import { parseDigest } from '../src/oci/digest.ts';
import { createPolicy } from '../src/signatures/policy.ts';
import { SignatureGate, type SignedRepository } from '../src/signatures/signature-gate.ts';
import { signingKey } from '../test/support/sigstore.ts';

// What a remembered verdict costs a request: `node bench/signatures.ts`.

const count = 10_000;
const rounds = 50;
const repositories = Array.from({ length: 100 }, (_, index): SignedRepository => {
  const name = `org/app-${index}`;
  return { key: `reg.example/${name}`, name, upstream: { name: 'reg.example' } };
});
const digests = Array.from({ length: count }, (_, index) =>
  parseDigest(`sha256:${createHash('sha256').update(String(index)).digest('hex')}`),
);
const gate = new SignatureGate<SignedRepository>({
  now: Date.now,
  report: () => undefined,
  // Everything passes as verification material: a verdict like any other.
  material: () => ({
    manifest: () => Promise.resolve(Buffer.from('{"manifests":[]}')),
    referrers: () => Promise.reject(new Error('not expected')),
    blob: () => Promise.reject(new Error('not expected')),
    indexesOf: () => [],
  }),
});
const keys = [{ name: 'cosign.pub', pem: signingKey().publicPem }];
const policy = createPolicy({
  place: 'bench',
  mode: 'enforce',
  repositories: ['org/**'],
  keys,
  signers: [],
  trustRoot: undefined,
  needsLog: false,
});
gate.use(new Map([['reg.example', [policy]]]));
const { signal } = new AbortController();
for (const [index, digest] of digests.entries()) await gate.check(repositories[index % 100]!, digest, { signal });

const times: number[] = [];
for (let round = 0; round < rounds; round += 1) {
  const before = process.hrtime.bigint();
  let passed = 0;
  for (const [index, digest] of digests.entries()) if (gate.isPassed(repositories[index % 100]!, digest)) passed += 1;
  if (passed !== count) throw new Error(`${passed} of ${count} passed`);
  times.push(Number(process.hrtime.bigint() - before) / count / 1000);
}
times.sort((a, b) => a - b);
const [median, worst] = [times[rounds >> 1]!, times.at(-1)!];
process.stdout.write(
  `${count} verdicts: ${median.toFixed(2)} µs each (median), ${worst.toFixed(2)} µs (slowest round)\n`,
);
