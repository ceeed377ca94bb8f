import { FileHasher } from '../../../store/files/file-hasher.ts';
import { Verification } from '../../../store/files/verification.ts';
import type { CheckupEvent, CheckupParameters } from '../../protocol/verify.ts';
import { administrationOf } from '../administration/operations.ts';
import type { OwnedCache } from '../cache/owned-cache.ts';
import { Checkup } from './checkup.ts';
import { Mender } from './mender.ts';

/** The operation `verify` on a cache that this process owns. */
export async function* verify(
  { images, repair }: CheckupParameters,
  cache: OwnedCache,
  signal: AbortSignal,
): AsyncGenerator<CheckupEvent> {
  const { layout, catalog, mirror, now } = cache;
  const selections = administrationOf(cache).select(images, 'latest');
  await using hasher = new FileHasher();
  const verification = new Verification({ layout, catalog, hasher, now });
  const mender = new Mender({ custody: mirror.custody, repair: cache.repair });
  yield* new Checkup({ catalog, verification, mender: repair ? mender : undefined }).run(selections, signal);
}
