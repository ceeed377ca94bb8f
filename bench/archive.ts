// Memory and time of large archives: node bench/archive.ts [GIGABYTES] [FOLDER]. Needs twice the size on disk.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, open, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeHeader, padded } from '../src/archive/tar-header.ts';

const [gigabytes = 20] = process.argv.slice(2).map(Number);
const parent = process.argv[3] ?? tmpdir();
if (!(gigabytes > 0)) throw new Error('usage: node bench/archive.ts [GIGABYTES] [FOLDER]');
const program = fileURLToPath(new URL('../bin/millpond', import.meta.url));
const directory = await mkdtemp(join(parent, 'millpond-archive-'));
const layers = 4;
const layerBytes = Math.ceil((gigabytes * 1e9) / layers);
const image = 'quay.io/org/large:1';

try {
  await writeFile(
    join(directory, 'millpond.yaml'),
    JSON.stringify({
      upstreams: { 'quay.io': { urls: ['http://127.0.0.1:1'] } },
      cache: { dir: 'data', minFree: '1B', maxSize: '1TiB' },
    }),
  );
  console.log(`${layers} layers of ${(layerBytes / 1e9).toFixed(2)} GB`);
  const hashing = await writeSparseArchive(join(directory, 'in.tar'));
  report('sha256 of the layers, in memory', hashing, undefined);
  await measure('import', ['import', 'in.tar']);
  await measure('import, all of it here already', ['import', 'in.tar']);
  await rm(join(directory, 'in.tar'));
  await measure('export', ['export', '--output', 'out.tar', image]);
  await rm(join(directory, 'data'), { recursive: true });
  const startMs = performance.now();
  await copyToDisk(join(directory, 'out.tar'), join(directory, 'copy'));
  report('copy of the archive, with fsync', (performance.now() - startMs) / 1000, undefined);
  await rm(join(directory, 'copy'));
  await measure('import of what was exported', ['import', 'out.tar']);
} finally {
  await rm(directory, { recursive: true, force: true });
}

/** Writes an archive whose layers are holes but for their first bytes. @returns seconds spent on hashing */
async function writeSparseArchive(path: string): Promise<number> {
  await using file = await open(path, 'w');
  let position = 0;
  const put = async (name: string, content: Buffer, size = content.length): Promise<void> => {
    const header = encodeHeader(name, size);
    await file.write(header, 0, header.length, position);
    await file.write(content, 0, content.length, position + header.length);
    position += header.length + padded(size);
  };
  const putBlob = async (content: Buffer) => {
    const hex = createHash('sha256').update(content).digest('hex');
    await put(`blobs/sha256/${hex}`, content);
    return { digest: `sha256:${hex}`, size: content.length };
  };
  const startMs = performance.now();
  const named: object[] = [];
  for (let number = 0; number < layers; number += 1) {
    const start = Buffer.from(`layer ${number}`);
    const hex = hashOfSparse(start, layerBytes);
    await put(`blobs/sha256/${hex}`, start, layerBytes);
    named.push({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: `sha256:${hex}`, size: layerBytes });
  }
  const seconds = (performance.now() - startMs) / 1000;
  const config = await putBlob(
    Buffer.from('{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'),
  );
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = await putBlob(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
        layers: named,
      }),
    ),
  );
  const entry = { mediaType, ...manifest, annotations: { 'io.containerd.image.name': image } };
  await put('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [entry] })));
  await file.truncate(position + 1024);
  return seconds;
}

function hashOfSparse(start: Buffer, size: number): string {
  const hash = createHash('sha256').update(start);
  const zeros = Buffer.alloc(1024 * 1024);
  for (let left = size - start.length; left > 0; left -= zeros.length) hash.update(zeros.subarray(0, left));
  return hash.digest('hex');
}

async function measure(what: string, args: readonly string[]): Promise<void> {
  const startMs = performance.now();
  const child = spawn(program, args, { cwd: directory, stdio: ['ignore', 'ignore', 'inherit'] });
  let peakBytes = 0;
  const watching = setInterval(() => {
    peakBytes = Math.max(peakBytes, peakOf(child.pid));
  }, 50);
  await once(child, 'exit');
  clearInterval(watching);
  if (child.exitCode !== 0) throw new Error(`millpond ${args.join(' ')} ended with ${child.exitCode}`);
  report(what, (performance.now() - startMs) / 1000, peakBytes);
}

/** The most memory that a process has had so far; 0 where it has ended. */
function peakOf(pid: number | undefined): number {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

async function copyToDisk(from: string, to: string): Promise<void> {
  await using source = await open(from, 'r');
  await using target = await open(to, 'w');
  const { size } = await stat(from);
  const buffer = Buffer.allocUnsafe(1024 * 1024);
  for (let position = 0; position < size; ) {
    const { bytesRead } = await source.read(buffer, 0, buffer.length, position);
    await target.write(buffer, 0, bytesRead, position);
    position += bytesRead;
  }
  await target.sync();
}

function report(what: string, seconds: number, peakBytes: number | undefined): void {
  const rate = (gigabytes / seconds).toFixed(2);
  const memory = peakBytes === undefined ? '' : `, ${Math.round(peakBytes / 1e6)} MB of memory at most`;
  console.log(`${what}: ${seconds.toFixed(1)} s, ${rate} GB/s${memory}`);
}
