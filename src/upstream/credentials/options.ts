/** Where the credentials of an upstream come from. */
export type CredentialOptions =
  | StaticCredentials
  /** The program `docker-credential-<helper>`. */
  | { readonly kind: 'helper'; readonly helper: string };

/** Credentials in a file, a variable or the configuration; read at each use, so that rotation works. */
export type StaticCredentials =
  | { readonly kind: 'inline'; readonly username: string; readonly password: string }
  /** One trailing newline of the file is not part of the password. */
  | { readonly kind: 'password-file'; readonly username: string; readonly passwordFile: string }
  | { readonly kind: 'environment'; readonly username: string; readonly passwordVariable: string }
  /** A `config.json` as `docker login` writes it. */
  | { readonly kind: 'docker-config'; readonly path: string };

/** Whether a credential is read from where it is configured, rather than obtained from a program or a service. */
export function isStatic(options: CredentialOptions): options is StaticCredentials {
  switch (options.kind) {
    case 'inline':
    case 'password-file':
    case 'environment':
    case 'docker-config':
      return true;
    case 'helper':
      return false;
    default:
      return options satisfies never;
  }
}
