import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CloudContext } from '../../src/upstream/credentials/cloud/context.ts';
import type { ServiceAnswer, ServiceRequest } from '../../src/upstream/credentials/service-client.ts';
import { temporaryDirectory } from '../support/temporary-directory.ts';

export const nowMs = Date.UTC(2026, 0, 1);
export const later = new Date(nowMs + 60_000).toISOString();

export type Reply = string | object | (Partial<ServiceAnswer> & { readonly text: string });

/** Services that answer one request after another, and what they were asked. */
export function services(replies: readonly Reply[], { environment = {}, endpoint = 'https://reg.example' } = {}) {
  const asked: ServiceRequest[] = [];
  const ask = (request: ServiceRequest): Promise<ServiceAnswer> => {
    const reply = replies[asked.length];
    asked.push(request);
    if (reply === undefined) throw new Error(`nothing answers ${request.url.href}`);
    const answer = typeof reply === 'object' && 'text' in reply ? reply : { text: textOf(reply) };
    return Promise.resolve({ status: 200, headers: {}, ...answer });
  };
  const context = { services: { ask }, environment, endpoint: new URL(endpoint), now: () => nowMs };
  return { asked, context: context as unknown as CloudContext };
}

function textOf(reply: Reply): string {
  return typeof reply === 'string' ? reply : JSON.stringify(reply);
}

/** A request without what all of its kind share. */
export function seen({ method, url, headers, body, timeoutMs }: ServiceRequest) {
  const form = body instanceof URLSearchParams ? Object.fromEntries(body) : body;
  return { method, url: url.href, headers, body: form, timeoutMs };
}

export async function fileWith(text: string) {
  const folder = await temporaryDirectory('cloud');
  const path = join(folder.path, 'file');
  await writeFile(path, text);
  return Object.assign(folder, { file: path });
}
