import { RegistryError } from '../oci/error.ts';

/** An error as far as it may be told: our own messages hold no secret, those of libraries may. */
export function described(error: unknown): unknown {
  if (error instanceof RegistryError) {
    const { cause } = error;
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
    return {
      code: error.code,
      reason: error.reason,
      message: error.message,
      ...(code !== undefined && { cause: code }),
    };
  }
  if (error instanceof Error) return { name: error.name, message: error.message, stack: error.stack };
  return { message: String(error) };
}
