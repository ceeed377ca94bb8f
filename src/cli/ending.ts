import process from 'node:process';

/**
 * Ends the process now, once what is written to its standard streams has gone out. A look-up of a name under way cannot
 * be called back and would hold up the end for as long as DNS is silent; the process is exchanged for one that ends at
 * once.
 */
export function endProcess(code: number): void {
  // Last of the listeners, so that the others have written what they had to say.
  process.once('exit', (exitCode) => {
    if (!process.getActiveResourcesInfo().includes('GetAddrInfoReqWrap')) return;
    try {
      process.execve?.(process.execPath, [process.execPath, '-e', `process.exitCode = ${exitCode}`], {});
    } catch {
      // Where that cannot be done the look-up is waited for.
    }
  });
  process.exit(code);
}

/** As {@link endProcess} with the current exit code, unless the process ends earlier. */
export function endSoon(): void {
  const { stdout, stderr } = process;
  setInterval(() => {
    if (stdout.writableLength + stderr.writableLength === 0) endProcess(Number(process.exitCode ?? 0));
  }, 100).unref();
}
