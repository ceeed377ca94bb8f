/** A share from 0 to 1 as per cent; a dash where there is none yet. */
export function shownRatio(ratio: number | null): string {
  return ratio === null ? '–' : `${(ratio * 100).toFixed(1)} %`;
}

/** Seconds for people, in the two largest units. */
export function shownSeconds(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [Math.floor(seconds) % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  if (first === -1) return '0 s';
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ');
}

/** The first digits of a digest, enough to tell it from others. */
export function shownDigest(digest: string): string {
  return digest.replace(/^(\w+:[0-9a-f]{12})[0-9a-f]+$/, '$1…');
}

/** A line of `label  text`, the text broken at spaces so that it fits a terminal; what has no spaces stays whole. */
export function labelled(label: string, text: string): string[] {
  const indent = 12;
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > 80) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((part, index) => (index === 0 ? label : '').padEnd(indent) + part);
}

const ageUnits = [
  [86_400, 'd'],
  [3600, 'h'],
  [60, 'min'],
  [1, 's'],
] as const;

/** How long ago something was, in one unit. @param ms milliseconds */
export function shownAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [count, unit] = ageUnits
    .map(([length, name]) => [Math.floor(seconds / length), name] as const)
    .find(([found]) => found > 0) ?? [0, 's'];
  return `${count} ${unit}`;
}

/** A count with its noun in the number that it takes: `1 blob`, `2 blobs`. */
export function counted(count: number, noun: string): string {
  return `${count} ${plural(count, noun)}`;
}

/** A word for one or for several. */
export function plural(count: number, word: string): string {
  return count === 1 ? word : `${word}s`;
}

/** Rows of cells as lines, each column as wide as it has to be. */
export function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows.reduce<number[]>((most, row) => row.map((cell, at) => Math.max(most[at] ?? 0, cell.length)), []);
  return rows.map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
