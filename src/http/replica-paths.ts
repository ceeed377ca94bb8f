/** The path of questions of other replicas. */
export const answersPath = '/v2/_millpond/answers';

/** Whether a path is one of those that replicas ask one another, with signed requests. */
export function isReplicaPath(path: string): boolean {
  return path.startsWith('/v2/_millpond/blobs/') || path === answersPath;
}
