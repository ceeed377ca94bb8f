// A registry as a process of its own, in whatever network it is started in: node upstream.ts HOST SIZE SEED…
import { startRegistry } from '../../support/registry.ts';

const [host, size, ...seeds] = process.argv.slice(2);
const registry = await startRegistry({ host });
const digests = seeds.map((seed) => registry.addBlob({ size: Number(size), seed }).digest);
process.stdout.write(`ready ${new URL(registry.origin).port} ${digests.join(' ')}\n`);
