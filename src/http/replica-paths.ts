/** The path of questions of other replicas. */
export const answersPath = '/v2/_millpond/answers';

const blobPath = '/v2/_millpond/blobs/';

/**
 * Whether a path is one of those that replicas ask one another, with signed requests. No other path counts: who sends these
 * is not asked for credentials.
 */
export function isReplicaPath(path: string): boolean {
  return path === answersPath || (path.startsWith(blobPath) && !path.includes('/', blobPath.length));
}
