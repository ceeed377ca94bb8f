import type { ExtensionEndpoint, ExtensionLevel } from './extension-request.ts';
import { registryPaths } from './openapi-registry.ts';
import { conditionsOf } from './registry-routes.ts';
import { jsonReply } from './replies.ts';

/** The error body of the distribution-spec, "Error Codes". */
const errorResponse = {
  description: 'an error, as the distribution-spec words it',
  content: {
    'application/json': {
      schema: {
        type: 'object',
        required: ['errors'],
        properties: {
          errors: {
            type: 'array',
            items: {
              type: 'object',
              required: ['code', 'message'],
              properties: { code: { type: 'string' }, message: { type: 'string' }, detail: { type: 'object' } },
            },
          },
        },
      },
    },
  },
};

const nameParameter = {
  name: 'name',
  in: 'path',
  required: true,
  description: 'the repository, slashes included',
  schema: { type: 'string' },
};

/**
 * `GET /v2/_millpond/openapi`: the endpoints of the distribution-spec and of extensions that are offered as configured, as
 * an OpenAPI 3.1 document.
 * @param offered read for each request
 * @param options `takesPushes`: whether there are hosted repositories
 */
export function openApi(
  offered: () => readonly ExtensionEndpoint[],
  { takesPushes }: { readonly takesPushes: boolean },
): ExtensionEndpoint {
  const own: ExtensionEndpoint = {
    extension: '_millpond',
    component: 'openapi',
    module: '',
    listed: 'openapi',
    levels: ['registry'],
    methods: ['GET', 'HEAD'],
    async answer({ ctx, exchange, sender }) {
      const contentType = 'application/vnd.oai.openapi+json;version=3.1';
      const conditions = { ...conditionsOf(ctx, exchange), contentType };
      await sender.send(ctx.res, jsonReply(documentOf([own, ...offered()], takesPushes), conditions), exchange);
    },
  };
  return own;
}

function documentOf(endpoints: readonly ExtensionEndpoint[], takesPushes: boolean): object {
  const paths: Record<string, Record<string, unknown>> = { ...registryPaths({ takesPushes, error: errorResponse }) };
  for (const endpoint of endpoints) {
    for (const level of endpoint.levels) {
      const path = pathOf(endpoint, level);
      const operations: Record<string, unknown> = (paths[path] ??= { parameters: parametersOf(endpoint, level) });
      for (const method of endpoint.methods) operations[method.toLowerCase()] = operationOf(endpoint, level, method);
    }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Millpond', version: '1', description: 'see /v2/_millpond/documentation' },
    paths,
  };
}

function pathOf({ extension, listed }: ExtensionEndpoint, level: ExtensionLevel): string {
  const base = level === 'registry' ? '/v2' : '/v2/{name}';
  return `${base}/${extension}/${listed.replaceAll('<', '{').replaceAll('>', '}')}`;
}

function parametersOf({ listed }: ExtensionEndpoint, level: ExtensionLevel): object[] {
  const named = [...listed.matchAll(/<(\w+)>/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }));
  return level === 'registry' ? named : [nameParameter, ...named];
}

function operationOf(
  { extension, component, module }: ExtensionEndpoint,
  level: ExtensionLevel,
  method: string,
): object {
  const words = [method.toLowerCase(), extension.slice(1), component, module ?? '', level];
  return {
    operationId: words.filter((word) => word !== '').join('-'),
    responses: { '2XX': { description: 'success' }, default: errorResponse },
  };
}
