import type { CredentialOptions, StaticCredentials } from './options.ts';

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
    case 'kubelet':
      return `what the kubelet's credential provider ${credentials.program} has for it`;
    case 'ecr':
      return `password of Amazon ECR${credentials.isPublic ? ' Public' : ''}, by ${ecrKeys(credentials.keys)}`;
    case 'google':
      return `access token of Google, by ${credentials.credentialsFile ?? 'the credentials of this machine or pod'}`;
    case 'acr':
      return `token of Azure Container Registry, by ${credentials.clientId ?? 'the identity of this machine or pod'}`;
    default:
      return credentials satisfies never;
  }
}

function ecrKeys(keys: StaticCredentials | undefined): string {
  return keys === undefined || keys.kind === 'docker-config'
    ? 'the role of this machine or pod'
    : `key ${keys.username}`;
}
