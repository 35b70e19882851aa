/** Asserts that a failed run changes nothing: neither the container as its engine shows it, nor any file name around it. */
import { readdir } from 'node:fs/promises';
import type { Test } from 'tap';
import { type Body, part } from '../../support/api-client.js';
import { differences, type Snapshot, snapshotOf } from '../../support/fidelity.js';
import { allIn } from '../bed/request-bodies.js';

export interface Watched {
  /** Folders in which no entry may change, by their names in messages. */
  readonly trees: () => Promise<Readonly<Record<string, string>>>;
  /** The engine's own view: states and names. */
  readonly told: () => Promise<unknown>;
  /** Folders in which no entry may appear or disappear. */
  readonly folders: readonly string[];
}

interface Look {
  readonly trees: ReadonlyMap<string, ReadonlyMap<string, Snapshot>>;
  readonly told: unknown;
  readonly names: Readonly<Record<string, readonly string[]>>;
}

export async function lookAt({ trees, told, folders }: Watched): Promise<Look> {
  const named = Object.entries(await trees());
  const snapshots = await Promise.all(named.map(async ([name, folder]) => [name, await snapshotOf(folder)] as const));
  const names = await Promise.all(folders.map(async (folder) => [folder, await allIn(folder)] as const));
  return { trees: new Map(snapshots), told: await told(), names: Object.fromEntries(names) };
}

/** Asserts that nothing differs. `restarted`: each start of LXC stamps the folder of the root. */
export async function unchanged(t: Test, watched: Watched, before: Look, o: { readonly restarted?: true } = {}): Promise<void> {
  const now = await lookAt(watched);
  t.same(now.told, before.told, 'the container is in the state that it was in');
  for (const [name, tree] of before.trees) {
    const found = differences(tree, now.trees.get(name) ?? new Map());
    const counts = (line: string) => !(o.restarted && name === 'rootfs' && line.startsWith('"": mtime '));
    t.same(found.filter(counts), [], `${name} is as it was`);
  }
  t.same(now.names, before.names, 'nothing is left behind and nothing is missing');
}

/** Asserts that a run failed with the code, in words that hold all of `says`. */
export function failedWith(t: Test, state: Body, code: string, says: readonly RegExp[]): void {
  t.equal(state.result, -1, 'the run failed');
  t.equal(part(state.error, 'code'), code, String(part(state.error, 'message')));
  for (const words of says) t.match(part(state.error, 'message'), words, `${code} says ${words}`);
}

export const isEmpty = async (folder: string): Promise<boolean> => (await readdir(folder)).length === 0;
