import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTool, missingOf, type Requirement, toolPath } from './tools.ts';

/** What tests need that mount something, for `describeWith`; where it cannot be had, one of them names the reason. */
export function mountRequirements(): readonly Requirement[] {
  const programs: readonly Requirement[] = ['root', 'mount', 'umount', 'unshare'];
  if (missingOf(programs).length > 0) return programs;
  try {
    // In a namespace of its own: whatever happens, nothing of it stays.
    const script = `mount -t tmpfs -o size=1m tmpfs ${tmpdir()}`;
    execFileSync(toolPath('unshare'), ['--mount', 'sh', '-c', script], { stdio: 'ignore' });
    return programs;
  } catch {
    return ['leave to mount file systems'];
  }
}

/** A small file system in memory; it is gone at the end of its scope, whatever still uses it. */
export class SmallDisk implements Disposable {
  readonly path: string;
  readonly #parent: string;

  /** @param options `type`: of the file system */
  constructor(size: string, { type = 'tmpfs' }: { readonly type?: 'tmpfs' | 'ramfs' } = {}) {
    this.#parent = mkdtempSync(join(tmpdir(), 'millpond-disk-'));
    this.path = join(this.#parent, 'disk');
    mkdirSync(this.path);
    mount('-t', type, '-o', `size=${size},mode=755`, type, this.path);
  }

  resize(size: string): void {
    mount('-o', `remount,size=${size}`, this.path);
  }

  /**
   * Everything opened from now on is on a read-only file system. What is open stays writable: as long as there is such a
   * file Linux refuses to make the whole read-only.
   */
  makeReadOnly(): Disposable {
    mount('--bind', this.path, this.path);
    mount('-o', 'remount,ro,bind', this.path);
    return { [Symbol.dispose]: () => unmount(this.path) };
  }

  [Symbol.dispose](): void {
    unmount(this.path);
    rmSync(this.#parent, { recursive: true, force: true });
  }
}

/** Makes a file one that can be read, and neither be moved nor removed nor replaced. */
export function holdFile(path: string): Disposable {
  mount('--bind', path, path);
  return { [Symbol.dispose]: () => unmount(path) };
}

function mount(...args: readonly string[]): void {
  execFileSync(toolPath('mount'), args, { stdio: 'pipe' });
}

function unmount(path: string): void {
  // Detached at once, so that an open file does not keep it.
  execFileSync(findTool('umount') ?? 'umount', ['--lazy', path], { stdio: 'pipe' });
}
