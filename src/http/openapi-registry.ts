/** An endpoint of the distribution-spec, with the number that "Endpoints" gives it. */
interface RegistryEndpoint {
  readonly path: string;
  readonly pull: readonly (readonly [method: string, summary: string, status: number])[];
  /** Only of hosted repositories; those of upstreams answer 405. */
  readonly push: readonly (readonly [method: string, summary: string, status: number])[];
  readonly query?: Readonly<Record<string, string>>;
}

const paging = { n: 'most entries of a page', last: 'only entries behind this one' };

/** The endpoints of the distribution-spec. */
const endpoints: readonly RegistryEndpoint[] = [
  { path: '/v2/', pull: [['get', 'whether this is a registry, and the caller is known (end-1)', 200]], push: [] },
  { path: '/v2/_catalog', pull: [['get', 'the repositories that can be pulled', 200]], push: [], query: paging },
  { path: '/v2/{name}/tags/list', pull: [['get', 'the tags (end-8)', 200]], push: [], query: paging },
  {
    path: '/v2/{name}/manifests/{reference}',
    pull: [['get', 'a manifest by tag or digest (end-3)', 200]],
    push: [
      ['put', 'push a manifest (end-7)', 201],
      ['delete', 'delete a tag, or a manifest with its tags (end-9)', 202],
    ],
  },
  {
    path: '/v2/{name}/blobs/{digest}',
    pull: [['get', 'a blob, or ranges of it (end-2)', 200]],
    push: [['delete', 'delete a blob (end-10)', 202]],
  },
  {
    path: '/v2/{name}/referrers/{digest}',
    pull: [['get', 'the manifests that name it as their subject (end-12)', 200]],
    push: [],
    query: { artifactType: 'only those of this type' },
  },
  {
    path: '/v2/{name}/blobs/uploads/',
    pull: [],
    push: [['post', 'begin an upload, push a blob whole, or mount it (end-4, end-11)', 202]],
    query: {
      digest: 'the digest of the blob, which is the body or is here already',
      mount: 'the digest of a blob that another repository has',
      from: 'the repository to mount it from',
      'digest-algorithm': 'sha256 or sha512',
    },
  },
  {
    path: '/v2/{name}/blobs/uploads/{upload}',
    pull: [],
    push: [
      ['get', 'how far an upload is (end-13)', 204],
      ['head', 'how far an upload is', 204],
      ['patch', 'send a chunk (end-5)', 202],
      ['put', 'send the last chunk, and end the upload (end-6)', 201],
      ['delete', 'cancel an upload (end-14)', 204],
    ],
    query: { digest: 'the digest of the blob; of PUT' },
  },
];

/**
 * The paths of the distribution-spec as OpenAPI has them.
 * @param options `takesPushes`: whether there are hosted repositories; `error`: the answer to what is refused
 */
export function registryPaths({
  takesPushes,
  error,
}: {
  readonly takesPushes: boolean;
  readonly error: object;
}): Record<string, Record<string, unknown>> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { path, pull, push, query = {} } of endpoints) {
    // Each path with GET has HEAD, too.
    const reads = pull.flatMap(([, summary, status]) => [
      ['get', summary, status] as const,
      ['head', summary, status] as const,
    ]);
    const offered = [...reads, ...(takesPushes ? push : [])];
    if (offered.length === 0) continue;
    const operations = offered.map(([method, summary, status]) => [
      method,
      {
        operationId: [method, ...path.split('/').slice(2)].join('-').replaceAll(/[{}]|-$/g, ''),
        summary,
        responses: { [status]: { description: 'success' }, default: error },
      },
    ]);
    paths[path] = { parameters: parametersOf(path, query), ...(Object.fromEntries(operations) as object) };
  }
  return paths;
}

function parametersOf(path: string, query: Readonly<Record<string, string>>): object[] {
  const schema = { type: 'string' };
  return [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema })),
    ...Object.entries(query).map(([name, description]) => ({ name, in: 'query', description, schema })),
  ];
}
