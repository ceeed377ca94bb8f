const pattern =
  /^v?(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?(?:-([0-9A-Za-z.-]+))?(?:[+_]([0-9A-Za-z._-]+))?$/;

/** Ends the key of a release: it comes after its pre-releases. */
const release = '~';

/**
 * A text for the version in a tag, such that keys in byte order are versions in the order of Semantic Versioning: `1.9` before
 * `1.10`, `1.0-rc.2` before `1.0`. One to four numbers are read, with or without `v`; what is behind `+`, which tags write as
 * `_`, decides only between equals.
 * @returns '' for a tag that is no version
 */
export function versionKey(tag: string): string {
  const found = pattern.exec(tag);
  if (found === null) return '';
  const [, major = '0', minor = '0', patch = '0', fourth = '0', preRelease, build = ''] = found;
  const numbers = [major, minor, patch, fourth].map((part) => part.padStart(9, '0')).join('.');
  return `${numbers}${preRelease === undefined ? release : preReleaseKey(preRelease)} ${build}`;
}

/** Whether a key is that of a release. */
export function isRelease(key: string): boolean {
  return key.includes(release);
}

// Numbers come before words, and fewer parts before more (semver.org, 11).
function preReleaseKey(text: string): string {
  return text
    .split('.')
    .map((part) => (/^\d{1,15}$/.test(part) ? `!${part.padStart(15, '0')}` : `#${part}`))
    .join('!');
}
