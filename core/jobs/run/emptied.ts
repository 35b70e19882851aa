/** Finds sources that were not empty before and are now. An unmounted share looks like that, and so does a folder that its owner
 *  cleared. Only a person can tell which it is; until then retention deletes no run. */
import { opendir } from 'node:fs/promises';
import type { NewestRun } from '../../archive/index.js';
import type { Source, Warning } from '../../contract/index.js';

const emptiedCode = 'source_empty';

/** A warning lists at most so many names, and its message fewer. */
const mostNames = 100;
const mostTold = 10;

async function isEmpty({ kind, path }: Source): Promise<boolean> {
  if (kind !== 'folder') return false;
  for await (const _ of await opendir(path)) return false;
  return true;
}

/** Whether the newest run has entries of the source (a level lists the source's own folder), or warned that it became empty. */
function hadEntries({ archives, warnings = [] }: NewestRun, name: string): boolean {
  if (warnings.some(({ code, names }) => code === emptiedCode && names?.includes(name))) return true;
  return archives.some(({ source, entries }) => source === name && entries > 1);
}

export interface Emptied {
  /** Sources that became empty, without the confirmed ones. */
  readonly unexplained: readonly string[];
  /** Sources that get a new, empty base. */
  readonly settled: readonly string[];
  readonly warnings: readonly Warning[];
}

/** @param layer Docker's own layer: it is empty in every new container, so that nobody has to confirm it
 *  @throws Error of the file system when a source cannot be read */
export async function findEmptiedSources(
  newest: NewestRun | undefined,
  sources: readonly Source[],
  { confirmed, layer }: { readonly confirmed: readonly string[]; readonly layer: string | undefined },
): Promise<Emptied> {
  const emptied: string[] = [];
  for (const source of sources) if (newest && hadEntries(newest, source.name) && (await isEmpty(source))) emptied.push(source.name);
  const settled = emptied.filter((name) => name === layer || confirmed.includes(name));
  const unexplained = emptied.filter((name) => !settled.includes(name));
  const warnings = [
    ...(layer !== undefined && emptied.includes(layer) ? [layerWarning(layer)] : []),
    ...(unexplained.length > 0 ? [warnEmptied(unexplained)] : []),
  ];
  return { unexplained, settled, warnings };
}

function warnEmptied(names: readonly string[]): Warning {
  const more = names.length > mostTold ? ` and ${names.length - mostTold} more` : '';
  return {
    code: emptiedCode,
    message: `${names.slice(0, mostTold).join(', ')}${more} held something at the run before, and nothing now: no older run is given up until that is confirmed`,
    fix: 'Mount what is missing and run the job again. If it is to be empty, confirm it: PUT /backup/<id>/confirm',
    count: names.length,
    names: names.slice(0, mostNames),
  };
}

const layerWarning = (layer: string): Warning => ({
  code: 'layer_empty',
  message: `${layer}, the container's own layer, held something at the run before and is empty now, as it is in a container that was made anew`,
  fix: 'If the container was not made anew, restore it from an older run',
});
