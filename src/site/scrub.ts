import { Scrub } from '../store/care/scrub.ts';
import { FileHasher } from '../store/files/file-hasher.ts';
import { Verification } from '../store/files/verification.ts';
import { backgroundReport } from './background-report.ts';
import type { Cache } from './cache.ts';
import type { Parts } from './parts.ts';

/** Begins to read what is stored again, whenever that is due; `look` where the configuration has changed. */
export function startScrub(cache: Cache, parts: Parts): Pick<Scrub, 'look'> & AsyncDisposable {
  const { layout, catalog, mirror, repair, now } = cache;
  const hasher = new FileHasher({ bytesPerSecond: () => cache.config.cache.scrub.rateBytesPerSecond });
  const scrub = new Scrub({
    catalog,
    verification: new Verification({ layout, catalog, hasher, now }),
    custody: mirror.custody,
    repair,
    settings: () => ({ everyMs: cache.config.cache.scrub.everyMs }),
    report: backgroundReport(parts),
    now,
  });
  scrub.start();
  return {
    look: () => scrub.look(),
    async [Symbol.asyncDispose]() {
      await scrub[Symbol.asyncDispose]();
      await hasher[Symbol.asyncDispose]();
    },
  };
}
