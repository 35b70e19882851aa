/** Fetches what the levels of a run build on: of each base, tar's snapshot file and the block table. */
import { join } from 'node:path';
import { type BlockTable, emptyTable, inLanes } from '../../../archive/index.js';
import type { Base } from './choose-base.js';
import type { TrustedBases } from './trusted-bases.js';

/** A base that a level can build on. */
export interface FetchedBase {
  readonly archive: Base;
  /** Path of tar's snapshot file. */
  readonly snapshot: string;
  /** Of its big files; undefined when an early version made the base, which knew none. */
  readonly table: BlockTable | undefined;
}

export interface FetchDeps {
  readonly workFolder: string;
  /** Gets that the target takes at a time. */
  readonly connections: number;
  /** Gets what must be closed when the run ends. */
  readonly opened: AsyncDisposable[];
}

/** Bases are verified one after the other. What belongs to them is read with as many connections as the target takes, because some
 *  targets need a login for each file. @returns in the same order; undefined where a new base must be made @throws PluginError */
export async function fetchBases(
  bases: TrustedBases,
  wanted: readonly (Base | undefined)[],
  deps: FetchDeps,
): Promise<(FetchedBase | undefined)[]> {
  const sound: [number, Base | undefined][] = [];
  for (const [index, base] of wanted.entries()) sound.push([index, base && (await bases.isSound(base)) ? base : undefined]);
  return inLanes(
    sound,
    deps.connections,
    async ([index, base]) => base && fetchBase(bases, base, join(deps.workFolder, `${index}.base`), deps),
  );
}

async function fetchBase(bases: TrustedBases, archive: Base, stem: string, { opened }: FetchDeps): Promise<FetchedBase | undefined> {
  const snapshot = `${stem}.snar`;
  if (!(await bases.hasSnapshot(archive, snapshot))) return undefined;
  if (archive.table === undefined) return { archive, snapshot, table: archive.no_big_files ? emptyTable : undefined };
  const table = await bases.openTable(archive, archive.table, `${stem}.table`);
  if (table) opened.push(table);
  return table && { archive, snapshot, table };
}
