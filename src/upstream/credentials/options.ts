/** Where the credentials of an upstream come from. */
export type CredentialOptions = StaticCredentials | RenewedCredentials;

/** Credentials in a file, a variable or the configuration; read at each use, so that rotation works. */
export type StaticCredentials =
  | { readonly kind: 'inline'; readonly username: string; readonly password: string }
  /** One trailing newline of the file is not part of the password. */
  | { readonly kind: 'password-file'; readonly username: string; readonly passwordFile: string }
  | { readonly kind: 'environment'; readonly username: string; readonly passwordVariable: string }
  /** A `config.json` as `docker login` writes it. */
  | { readonly kind: 'docker-config'; readonly path: string };

/** Credentials that a program or a service gives, and that are renewed. */
export type RenewedCredentials =
  /** The program `docker-credential-<helper>`. */
  | { readonly kind: 'helper'; readonly helper: string }
  /** A credential provider of the kubelet. */
  | { readonly kind: 'kubelet'; readonly program: string; readonly args: readonly string[] }
  /** Amazon ECR. `keys`: user name and password are an access key; absent: the keys of the machine or pod. */
  | {
      readonly kind: 'ecr';
      readonly isPublic: boolean;
      readonly region: string | undefined;
      readonly keys: StaticCredentials | undefined;
    }
  /** Google Artifact Registry. */
  | { readonly kind: 'google'; readonly credentialsFile: string | undefined }
  /** Azure Container Registry. */
  | { readonly kind: 'acr'; readonly clientId: string | undefined; readonly tenantId: string | undefined };

/** Whether a credential is read from where it is configured, rather than obtained from a program or a service. */
export function isStatic(options: CredentialOptions): options is StaticCredentials {
  switch (options.kind) {
    case 'inline':
    case 'password-file':
    case 'environment':
    case 'docker-config':
      return true;
    case 'helper':
    case 'kubelet':
    case 'ecr':
    case 'google':
    case 'acr':
      return false;
    default:
      return options satisfies never;
  }
}
