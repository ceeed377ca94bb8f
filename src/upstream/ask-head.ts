import { hasReason } from '../oci/error.ts';
import { drain } from '../transport/body.ts';
import type { Ask, Asker } from './asking.ts';
import { isReset } from './failures.ts';
import type { HttpAnswer } from './http-client.ts';

/**
 * Asks by HEAD. @returns `undefined` if that came to nothing that a GET must share: a connection that was closed, a
 * redirect that leads nowhere, a demand that cannot be met
 */
export async function askHead(asker: Asker, ask: Omit<Ask, 'method' | 'accepted'>): Promise<HttpAnswer | undefined> {
  try {
    const answer = await asker.ask({ ...ask, method: 'HEAD', accepted: 'any' });
    await drain(answer.body);
    return answer;
  } catch (error) {
    if (ask.signal.aborted || !(hasReason(error, 'bad-answer', 'cut', 'denied') || isReset(error))) throw error;
    return undefined;
  }
}
