/** The rights of a new key, and its expiry. */
export interface KeyParameters {
  /** The caller's name in policies and logs. */
  readonly name: string;
  /** Patterns of full repository names. */
  readonly repositories: readonly string[];
  readonly actions: readonly ('pull' | 'push' | 'delete' | 'search' | 'administer')[];
  /** Milliseconds; absent: without end. */
  readonly lifeMs?: number | undefined;
}

/** An API key, without its secret. */
export interface KeyEvent {
  readonly id: string;
  readonly name: string;
  readonly repositories: readonly string[];
  readonly actions: readonly string[];
  /** ISO 8601. */
  readonly createdAt: string;
  /** ISO 8601; `null`: without end. */
  readonly expiresAt: string | null;
}
