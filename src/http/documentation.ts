import { readFile } from 'node:fs/promises';
import { RegistryError } from '../oci/error.ts';
import type { ExtensionEndpoint } from './extension-request.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';

const path = new URL('../../docs/extensions/_millpond.md', import.meta.url);

/** The document of the extension `_millpond`, which discovery names as its `url`. */
export function documentation(): ExtensionEndpoint {
  return {
    extension: '_millpond',
    component: 'documentation',
    module: '',
    listed: 'documentation',
    levels: ['registry'],
    methods: ['GET', 'HEAD'],
    async answer({ ctx, exchange, sender }) {
      const text = await readDocument();
      const conditions = { ...conditionsOf(ctx, exchange), contentType: 'text/markdown; charset=utf-8' };
      await sender.send(ctx.res, jsonReply(text, conditions), exchange);
    },
  };
}

async function readDocument(): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new RegistryError('unknown-extension', 'the document is not installed: see docs/extensions in the sources');
  }
}
