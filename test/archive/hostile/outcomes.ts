/** Taken in, without a word. */
const taken = /^$/;
const linkOut = /is a link that leads out of it$/;
const lacksManifest = /library\/\w+:\d lacks its manifest sha256:\w+$/;
const notWhole = /is not whole: it lacks sha256:\w+$/;
const wrongSize = /a manifest in it gives sha256:\w+ \d+ bytes, and it has \d+$/;
const noNumber = /the size of "[^"]+" (?:in it )?is (?:no|not a) number$/;
const noTar = /it is not a tar archive, or a header in it is damaged$/;
const cutShort = /it is cut short (?:within \S+|in the middle of a header)$/;
const twice = /"[^"]+" in it is there twice$/;
const otherBytes = /other ones than its digest says$|1 blob in it is damaged$/;

/** What becomes of the archives of each kind: each of these of some, and nothing else of any. */
export const outcomes: Readonly<Record<string, readonly RegExp[]>> = {
  'nothing wrong': [taken],
  'a name that leads out of it': [taken],
  'a link in place of a file': [taken, linkOut, lacksManifest],
  'a link beside the file': [linkOut, twice],
  'a device or something unknown': [taken],
  'a sparse file': [taken],
  'a size that lies': [wrongSize, noNumber, noTar],
  'a size in an extra header': [cutShort, wrongSize, noNumber],
  'an extra header that does not end': [noNumber, /an extra header in it has \d+ bytes$/],
  'extra headers without end': [/more than 8 extra headers for one entry$/],
  'one name for all': [/it gives all its entries one name or size$/],
  'a broken extra header': [/a pax header in it is damaged$/],
  'very many entries': [taken],
  'long names, compressed': [/the names of its entries are too long$/],
  'something twice': [taken, twice, otherBytes],
  'a wrong blob': [otherBytes],
  'a missing blob': [taken, lacksManifest, notWhole],
  'an index that is too large': [/"index\.json" in it has 20971520 bytes, more than it may$/],
  'an index of very many objects': [/index\.json in it has more than 200000 objects$/],
  'an index that is nested deeply': [/index\.json in it is not a JSON object$/],
  'nonsense in the index': [taken, /names no (?:digest|size|manifests)$/, /it has no images$/],
  'an image with an evil name': [
    /is not a (?:tag|repository name|sha256 or sha512 digest)$/,
    /is not a configured upstream of this mirror/,
  ],
  'nonsense in a manifest': [taken],
  'indexes nested without end': [taken, /is nested too deeply or names too many manifests$/],
  'an index that names a large one again and again': [taken],
  'manifests of many bytes, compressed': [/its manifests have \d+ bytes, more than they may$/],
  'cut short': [taken, cutShort],
  'cut short and compressed': [/what is compressed in it is damaged or cut short$/],
  'bits turned over': [noTar],
  noise: [noTar, cutShort],
  'zeros without end, compressed': [/it is not a tar archive, or it is empty$/],
  'a blob of zeros without end, compressed': [wrongSize],
  'two archives in one': [taken],
  'docker save with evil layers': [/an image without a name \(sha256:\w+\) is: say it with --name/, /names no config$/],
  'docker save with the same layers again and again': [/its manifest\.json names too many images or layers$/],
  'links in a circle': [/it lacks "a", which its manifest\.json names$/],
  'a description that was altered': [/millpond\.json or index\.json has been altered$/, /a newer version of Millpond/],
};
