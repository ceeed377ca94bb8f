/** Error codes of the distribution-spec ("Error Codes"), and those the spec leaves to registries. */
export type ErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'EXTENSION_UNKNOWN'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'QUOTA_EXCEEDED'
  | 'RANGE_INVALID'
  | 'SIZE_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED';

/** The party that can put an error right: the client, the operator of this mirror, the upstream, another replica, or this mirror. */
export type Fault = 'client' | 'operator' | 'upstream' | 'replica' | 'mirror';

/** The evidence that a failed request gives about the place that it was sent to. */
export type GateEvidence =
  /** The place said nothing for as long as it had. */
  | 'silence'
  /** There was no connection, or it broke. */
  | 'connection'
  /** The place answered, with something that cannot be used. */
  | 'answer'
  /** Nothing. */
  | 'none';

/** The properties of every error of one reason. */
export interface ReasonFacts {
  /** The code that a client gets, where the error does not name another one. */
  readonly code: ErrorCode;
  /** The HTTP status that a client gets, where the error does not name another one. */
  readonly status: number;
  readonly fault: Fault;
  /** `transient`: asking again later may help, and stale content may stand in; `absent`: there is no such thing here. */
  readonly kind: 'definite' | 'transient' | 'absent';
  readonly gate: GateEvidence;
}

function client(code: ErrorCode, status: number): ReasonFacts {
  return { code, status, fault: 'client', kind: 'definite', gate: 'none' };
}

function definite(code: ErrorCode, { status, fault }: Pick<ReasonFacts, 'status' | 'fault'>): ReasonFacts {
  return { code, status, fault, kind: 'definite', gate: 'none' };
}

function absent(code: ErrorCode, fault: Fault): ReasonFacts {
  return { code, status: 404, fault, kind: 'absent', gate: 'none' };
}

function transient(fault: Fault, facts: Partial<Pick<ReasonFacts, 'code' | 'status' | 'gate'>> = {}): ReasonFacts {
  return { code: 'UNAVAILABLE', status: 502, fault, kind: 'transient', gate: 'none', ...facts };
}

/** All that is decided by the reason of an error, in one place. */
export const reasonFacts = {
  // The request of a client cannot be read, or is not offered.
  'bad-name': client('NAME_INVALID', 400),
  'bad-reference': client('MANIFEST_INVALID', 400),
  /** A parameter of an extension, or of a listing, that cannot be read. */
  'bad-parameter': client('UNSUPPORTED', 400),
  'bad-digest': client('DIGEST_INVALID', 400),
  /** The client's `Range` lies outside of the blob. */
  'bad-range': client('RANGE_INVALID', 416),
  'read-only': client('UNSUPPORTED', 405),
  'no-endpoint': { ...absent('NAME_UNKNOWN', 'client') },
  /** No such extension, or none of its components. */
  'unknown-extension': absent('EXTENSION_UNKNOWN', 'client'),
  'client-idle': transient('client'),
  /** The name is not in the table of upstreams. */
  'unknown-upstream': absent('NAME_UNKNOWN', 'client'),

  // The content that a client pushes cannot be taken.
  /** No such upload session: it has ended, has expired, or belongs to another repository. */
  'unknown-upload': absent('BLOB_UPLOAD_UNKNOWN', 'client'),
  /** A request of an upload that cannot be read. */
  'bad-upload': client('BLOB_UPLOAD_INVALID', 400),
  /** A chunk that does not follow what has arrived; the session goes on. */
  'out-of-order': client('BLOB_UPLOAD_INVALID', 416),
  /** The number of bytes differs from what was said. */
  'wrong-length': client('SIZE_INVALID', 400),
  /** A manifest names what its repository does not have. */
  'missing-part': absent('MANIFEST_BLOB_UNKNOWN', 'client'),
  'manifest-too-large': client('SIZE_INVALID', 413),
  'blob-too-large': client('SIZE_INVALID', 413),
  'unsupported-type': client('UNSUPPORTED', 415),
  /** The repository has no room for more: only deleting helps, so clients are not invited to retry. */
  'quota-exceeded': client('QUOTA_EXCEEDED', 413),
  /** The client has begun more uploads than it may have at a time. */
  'too-many-uploads': transient('client', { code: 'TOOMANYREQUESTS', status: 429 }),
  'tag-immutable': client('DENIED', 403),
  /** The caller has to show who it is, or has shown something wrong. */
  unauthenticated: client('UNAUTHORIZED', 401),
  /** No policy allows it to this caller. */
  forbidden: client('DENIED', 403),
  /** Too many wrong passwords have come from there. */
  'login-limited': transient('client', { code: 'TOOMANYREQUESTS', status: 429 }),

  // The operator's configuration says no.
  /** `upstreams.NAME.repositories` does not allow the repository, or the caller is not a replica. */
  'not-allowed': definite('DENIED', { status: 403, fault: 'operator' }),
  /** A manifest waits for a scanner, or a scanner has rejected it. */
  held: definite('DENIED', { status: 403, fault: 'operator' }),
  /** It lacks a signature that `upstreams.NAME.signatures` asks for. */
  unsigned: definite('DENIED', { status: 403, fault: 'upstream' }),
  offline: absent('MANIFEST_UNKNOWN', 'operator'),
  'no-credentials': transient('operator', { gate: 'none' }),

  // The upstream gave a definite answer.
  'not-found': absent('MANIFEST_UNKNOWN', 'upstream'),
  denied: definite('DENIED', { status: 403, fault: 'upstream' }),

  // The upstream gave no answer that can be used.
  limited: transient('upstream', { code: 'TOOMANYREQUESTS', status: 429, gate: 'answer' }),
  /** Few pulls are left, and they are kept for what is not stored. */
  'pull-spared': transient('upstream', { code: 'TOOMANYREQUESTS', status: 429 }),
  timeout: transient('upstream', { status: 504, gate: 'silence' }),
  unreachable: transient('upstream', { gate: 'connection' }),
  /** Not asked: it failed a moment ago. */
  'left-alone': transient('upstream'),
  /** A status that says neither yes nor no. */
  'bad-status': transient('upstream', { gate: 'answer' }),
  /** An answer that cannot be read, or that leads nowhere. */
  'bad-answer': transient('upstream', { gate: 'answer' }),
  'wrong-bytes': transient('upstream', { gate: 'answer' }),
  'wrong-size': transient('upstream', { gate: 'answer' }),
  /** The connection ended before the body did. */
  cut: transient('upstream', { gate: 'connection' }),
  /** 416: the offset lies outside of what the upstream has. */
  'range-refused': transient('upstream', { gate: 'answer' }),
  /** The upstream gives no parts of the blob, or other ones than it was asked for. */
  'range-ignored': transient('upstream', { gate: 'answer' }),
  'too-large': transient('upstream', { gate: 'answer' }),
  /** A blob comes so slowly that another source goes on instead. */
  'too-slow': transient('upstream'),
  /** A redirect or realm leads into a private network. */
  'forbidden-address': transient('upstream'),
  /** The upstream is a mirror, and could not pass the question on: it is offline, full, or lacks that upstream. */
  'other-mirror': transient('upstream', { gate: 'answer' }),
  /** The request has come through this mirror before. */
  loop: transient('operator', { status: 508 }),
  /** None of the sources of a blob is left. */
  'no-source': transient('upstream'),
  /** The stored answer could not be confirmed. */
  unconfirmed: transient('upstream'),

  /** Whose token it is cannot be found out now. */
  'identity-unknown': transient('mirror', { status: 503 }),

  // Stored or fetched content is not what it should be.
  'bad-manifest': definite('MANIFEST_INVALID', { status: 400, fault: 'upstream' }),
  /** A part of an image is missing. */
  incomplete: absent('MANIFEST_UNKNOWN', 'client'),
  /** The bytes that a client brings are not the blob. */
  damaged: client('DIGEST_INVALID', 400),

  // Another replica.
  'replica-failed': transient('replica', { gate: 'connection' }),
  /** The replica that keeps the hosted repositories cannot be reached. */
  'owner-away': transient('replica', { status: 503 }),
  /** Another replica fetches the blob instead. */
  superseded: transient('replica'),
  /** The blob was fetched for other replicas to keep. */
  'kept-elsewhere': transient('replica'),

  // This mirror.
  /** The disk did not take it. */
  'disk-fault': transient('mirror', { status: 507 }),
  /** `cache.maxSize` has no room for it beside what is pinned, in use or on its way. */
  'no-room': transient('mirror', { status: 507 }),
  /** As many blobs are being fetched as may be. */
  'no-place': transient('mirror', { status: 503 }),
  'out-of-files': transient('mirror', { status: 503 }),
  /** A limit on connections, requests or memory is reached. */
  overloaded: transient('mirror', { status: 503 }),
  'shutting-down': transient('mirror', { status: 503 }),
  internal: definite('UNKNOWN', { status: 500, fault: 'mirror' }),
} as const satisfies Record<string, ReasonFacts>;

/** Why something could not be done: what programs decide by, while people read the message. */
export type Reason = keyof typeof reasonFacts;
