import type { CredentialOptions } from './options.ts';

/** The kind of a credential and where it comes from, in words without any secret. */
export function credentialInWords(credentials: CredentialOptions | undefined): string {
  switch (credentials?.kind) {
    case undefined:
      return 'anonymous';
    case 'inline':
      return `user ${credentials.username}, password from the configuration`;
    case 'password-file':
      return `user ${credentials.username}, password from ${credentials.passwordFile}`;
    case 'environment':
      return `user ${credentials.username}, password from the environment variable ${credentials.passwordVariable}`;
    case 'docker-config':
      return `what ${credentials.path} holds for it`;
    case 'helper':
      return `what docker-credential-${credentials.helper} has for it`;
    default:
      return credentials satisfies never;
  }
}
