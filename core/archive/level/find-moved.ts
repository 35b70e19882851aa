/** Tells of files that moved which databases they belong to. */
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { searchByStatus } from './flag-status.js';
import { quoteName } from './flags.js';
import type { MovedFile, MovedFiles } from './moved.js';
import type { ConfinedTree } from './sandbox.js';

/** So many are looked at; the others are only counted. */
const mostLooked = 1000;

export interface MovedSearch {
  readonly tree: ConfinedTree;
  /** Path that a list of names may be put beside. */
  readonly workFolder: string;
  readonly signal: AbortSignal;
}

/** @param paths of the files that moved, their bytes as latin-1 @param bytes of all of them @throws PluginError */
export async function findMoved({ tree, workFolder, signal }: MovedSearch, paths: readonly string[], bytes: number): Promise<MovedFiles> {
  const names = paths.slice(0, mostLooked).map(quoteName);
  const list = `${workFolder}.${randomBytes(4).toString('hex')}.moved`;
  await writeFile(list, names.map((name) => `./${name}\n`).join(''));
  try {
    const search = { tree, list, beside: false, ended: AbortSignal.abort(), since: 0, wantsMoved: () => true };
    const known = new Map<string, MovedFile>((await searchByStatus(search, signal))?.moved.files.map((file) => [file.path, file]));
    const files = names.map((path) => known.get(path) ?? { path });
    const ofDatabases = files.filter(({ database }) => database !== undefined);
    const sorted = [...ofDatabases, ...files.filter(({ database }) => database === undefined)];
    return { count: paths.length, files: sorted.slice(0, 100), bytes, isStamped: true };
  } finally {
    await rm(list, { force: true });
  }
}
