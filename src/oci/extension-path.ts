/** A path of an extension (distribution-spec, "Extensions API"): `/v2/[<name>/]_<extension>/<component>[/<module>]`. */
export interface ExtensionPath {
  /** The repository as the client wrote it; `undefined` at the level of the registry. */
  readonly name: string | undefined;
  /** With its underscore; `undefined` if it does not follow the grammar, so that no extension can have that name. */
  readonly extension: string | undefined;
  /** `undefined` if there is none, or none that follows the grammar. */
  readonly component: string | undefined;
  /** The rest of the path behind the component, undecoded; '' if there is none. Most components have one module by the grammar of names. */
  readonly rest: string;
}

// The document lacks the star: read literally, it would refuse "oci", "ext" and "discover".
const namePattern = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
const maxNameLength = 128;

/** Whether a text can name a component or a module of an extension; an extension has an underscore in front of one. */
export function isExtensionName(text: string): boolean {
  return text.length <= maxNameLength && namePattern.test(text);
}

/**
 * Reads the path of an extension. The first part that begins with `_` is the extension: no part of a repository name can.
 * @param path the undecoded path, without its query
 * @returns `undefined` for any other path, such as that of a tag that begins with `_`
 */
export function parseExtensionPath(path: string): ExtensionPath | undefined {
  if (!path.startsWith('/v2/') || !path.includes('/_')) return undefined;
  const parts = path.slice('/v2/'.length).split('/');
  const at = parts.findIndex((part) => part.startsWith('_'));
  // A last part is a tag, or the id of an upload.
  if (at === -1 || (at > 0 && at === parts.length - 1)) return undefined;
  const [extension = '', component = '', ...rest] = parts.slice(at);
  return {
    name: at === 0 ? undefined : parts.slice(0, at).join('/'),
    extension: isExtensionName(extension.slice(1)) ? extension : undefined,
    component: isExtensionName(component) ? component : undefined,
    rest: rest.join('/'),
  };
}
