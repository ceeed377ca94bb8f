import { chmodSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';

/** Longest path of a Unix socket in bytes: `sun_path` of Linux and of macOS, without the byte that ends it. */
const maxPathBytes = process.platform === 'darwin' ? 103 : 107;

/** The socket of a running mirror, in its cache directory. */
export function controlSocketPath(cacheDir: string): string {
  return join(cacheDir, 'control.sock');
}

/** Whether a path can be that of a Unix socket at all. */
export function isSocketPath(path: string): boolean {
  return Buffer.byteLength(path) <= maxPathBytes;
}

/**
 * Serves HTTP on a Unix socket that only its owner (and root) may connect to; one that a killed process left behind is
 * replaced. The caller has the lock of the directory. Disposing closes it, cuts what is under way and removes the file.
 * @throws Error in one sentence where there can be no such socket
 */
export async function openControlSocket(path: string, handler: RequestListener): Promise<AsyncDisposable> {
  if (!isSocketPath(path)) {
    throw new Error(`the path of the control socket has more than ${maxPathBytes} bytes: ${path}`);
  }
  // An archive may take hours to be sent; the headers may not.
  const server = createServer({ requestTimeout: 0, headersTimeout: 10_000, keepAliveTimeout: 1_000 }, handler);
  try {
    await rm(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
      // The file exists as soon as the call returns: no one else can connect in between.
      chmodSync(path, 0o600);
    });
  } catch (error) {
    server.close();
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`the control socket cannot be made: ${code ?? message}`, { cause: error });
  }
  return {
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      await rm(path, { force: true }).catch(() => undefined);
    },
  };
}
