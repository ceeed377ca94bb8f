import type { Keeper } from '../front/keeper.ts';
import type { KeptAnswer } from '../front/kept-answer.ts';
import { MemoryReader } from '../front/memory-reader.ts';
import type { ReadRequest } from '../front/request-key.ts';
import { systemCalls } from '../front/system-calls.ts';
import type { HostedOwner } from '../http/hosted-owner.ts';
import { ReadyAnswers } from '../http/ready-answers.ts';
import { ReadyBlobs } from '../mirror/ready-blobs.ts';
import { smallBlobBytes } from '../store/files/blob-store.ts';
import { readFlags } from '../store/files/plain-file.ts';
import type { Cache } from './cache.ts';
import { hostedRules } from './hosted-rules.ts';
import type { MirrorSignatures } from './signatures.ts';

/** Decides the first request for a stored blob where nothing has to be waited for. */
export function readyAnswers(
  cache: Cache,
  parts: {
    readonly keeper: Keeper;
    readonly hosted: unknown;
    readonly owner: HostedOwner | undefined;
    readonly signatures: MirrorSignatures;
  },
): (read: ReadRequest) => KeptAnswer | undefined {
  const { catalog, layout, mirror, store, upstreams } = cache;
  const { keeper, hosted, owner, signatures } = parts;
  const calls = systemCalls();
  const reader = calls && new MemoryReader({ calls, flags: readFlags, maxBytes: smallBlobBytes });
  const blobs = new ReadyBlobs({
    catalog,
    fills: mirror.fills,
    small: (digest) => store.small(digest),
    readNow: (digest) => reader?.read(layout.blob(digest)),
    pathOf: (digest) => layout.blob(digest),
  });
  const rules = hostedRules(() => cache.config);
  const answers = new ReadyAnswers({
    get upstreams() {
      return upstreams.table;
    },
    get settings() {
      return cache.config;
    },
    blobs,
    keeper,
    isOpen: () => cache.config.auth === undefined && cache.config.hold.length === 0,
    hosted: hosted === undefined && owner === undefined ? undefined : { isHosted: (name) => rules().isHosted(name) },
    isSigned: (repository) => signatures.policyOf(repository) !== undefined,
    handsFilesOver: () => cache.config.serve.sendfile === 'nginx',
  });
  return (read) => answers.decide(read);
}
