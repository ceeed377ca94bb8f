import type { Catalog } from '../../../store/catalog/catalog.ts';
import { pinPatternsNote } from '../../../store/catalog/pin-records.ts';
import type { UpstreamTable } from '../../../upstream/table.ts';
import { ImageNames, type ImageSelection, selects, written } from './image-names.ts';

/**
 * Applies the pins of a configuration: names and patterns that select tags.
 * @throws Error in one sentence for an invalid pin, or one whose upstream is not in the table; nothing has changed then
 */
export function usePins(catalog: Catalog, pins: readonly string[], upstreams: UpstreamTable): void {
  const names = new ImageNames({ upstreams, isStored: () => false });
  const selections = pins.map((pin) => {
    try {
      return names.read(pin, 'latest');
    } catch (error) {
      throw new Error(`cache.pins: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
    }
  });
  const fingerprint = selections.map((selection) => (selection.kind === 'image' ? written(selection) : selection.full));
  catalog.pins.usePatterns(patternsOf(selections), fingerprint.join('\n'));
}

/** Uses the pins that the mirror on this cache has applied, whatever configuration this process has. */
export function recallPins(catalog: Catalog, upstreams: UpstreamTable): void {
  const noted = catalog.notes.get(pinPatternsNote);
  if (noted === undefined) return;
  const names = new ImageNames({ upstreams, isStored: () => true });
  const pins = noted.split('\n').filter((line) => line !== '');
  catalog.pins.usePatterns(patternsOf(pins.map((pin) => names.read(pin, 'latest'))), noted);
}

function patternsOf(selections: readonly ImageSelection[]) {
  return (repository: string, tag: string): boolean =>
    selections.some((selection) => selects(selection, repository, tag));
}
