/** A source that is suddenly empty where it was not: a share that is not mounted looks so, and an owner who deleted everything. Only a
 *  person can tell, and until then no run that still holds something is given up. */
import { opendir } from 'node:fs/promises';
import type { NewestRun } from '../../archive/index.js';
import type { Source, Warning } from '../../contract/index.js';

const emptiedCode = 'source_empty';

/** How many names a warning gives, and its message. */
const mostNames = 100;
const mostTold = 10;

async function isEmpty({ kind, path }: Source): Promise<boolean> {
  if (kind !== 'folder') return false;
  for await (const _ of await opendir(path)) return false;
  return true;
}

/** Whether the newest run holds something of it, or found it emptied and nobody has confirmed that. A level lists the source itself. */
function hadEntries({ archives, warnings = [] }: NewestRun, name: string): boolean {
  if (warnings.some(({ code, names }) => code === emptiedCode && names?.includes(name))) return true;
  return archives.some(({ source, entries }) => source === name && entries > 1);
}

export interface Emptied {
  /** Names of the sources that are empty now and were not, less those that were confirmed. */
  readonly unexplained: readonly string[];
  /** Names of those that get a new base, so that they are empty from now on. */
  readonly settled: readonly string[];
  readonly warnings: readonly Warning[];
}

/** @param layer the source that each newly made container has empty, so that nobody has to confirm it
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
