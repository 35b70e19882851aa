/** The known state of a household during a walk, and the checks after every step. */
import { lstatSync, readlinkSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { within } from '../../../plugins/shared/paths.js';
import type { Appliance } from '../../support/appliance.js';
import type { Engine } from './engines.js';
import { journalsOf } from './engines.js';
import type { ContainerWish, Dice, Graph, MountWish } from './graph.js';
import { type Files, isThere, type Look, lookInto, treeIn } from './look.js';
import type { Coming, RealMount, Run } from './model.js';

export interface Member {
  readonly wish: ContainerWish;
  /** Its current mounts. A clone has copies. */
  readonly mounts: readonly (MountWish & { readonly readOnly?: boolean })[];
  readonly running: boolean;
}

/** What an undo must bring back. */
export interface Kept {
  readonly restore: number;
  readonly container: string;
  readonly run: Run;
  readonly came: readonly Coming[];
  /** Folders that were made above them. An undo removes them, unless a container uses them. */
  readonly made: readonly string[];
  /** The container before the restore; undefined when it did not exist. */
  readonly member: Member | undefined;
  readonly root: Files;
}

export interface Household {
  readonly a: Appliance;
  readonly engine: Engine;
  readonly graph: Graph;
  readonly dice: Dice;
  /** All mount points of the host. */
  readonly points: readonly string[];
  readonly jobs: Map<string, number>;
  readonly members: Map<string, Member>;
  /** Restore jobs by their requests. */
  readonly restores: Map<string, number>;
  /** Restores whose undo was deleted by request. */
  readonly gone: Set<number>;
  readonly runs: Run[];
  readonly kept: Kept[];
  /** Descriptions of the steps so far. */
  readonly said: string[];
}

/** The real path of a name as far as it exists. A link may lead to nothing. */
export function goalOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const here = `${path === '/' ? '' : goalOf(dirname(path))}/${basename(path)}`;
    return lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink() ? goalOf(resolve(dirname(here), readlinkSync(here))) : here;
  }
}

export async function realMounts({ engine }: Household, mounts: readonly MountWish[]): Promise<RealMount[]> {
  const volumes = await engine.volumes();
  return mounts.map((mount) => ({
    ...mount,
    path: mount.host.startsWith('/') ? goalOf(mount.host) : (volumes.get(mount.host) ?? mount.host),
  }));
}

/** The other containers that mount a path, a parent of it or a part of it. */
export async function usersOf(
  household: Household,
  path: string,
  except: string,
): Promise<{ readonly name: string; readonly running: boolean }[]> {
  const found: { name: string; running: boolean }[] = [];
  for (const [name, { mounts, running }] of household.members) {
    if (name === except) continue;
    const paths = (await realMounts(household, mounts)).map((one) => one.path);
    if (paths.some((one) => within(one, path) || within(path, one))) found.push({ name, running });
  }
  return found;
}

/** Every file of the household on the host, except those in the containers' roots. */
export async function lookAround({ engine, graph, members, a }: Household): Promise<Look> {
  const volumes = [...(await engine.volumes()).values()];
  const own = graph.kind === 'lxc' ? [...members.keys()].map((name) => join(a.lxcPath, name, 'volumes/data')) : [];
  return lookInto([graph.top, dirname(graph.media), ...volumes, ...own]);
}

export async function rootsOf({ engine, members }: Household): Promise<Map<string, Files>> {
  const roots = new Map<string, Files>();
  for (const name of members.keys()) roots.set(name, treeIn(await engine.own(name)));
  return roots;
}

const inode = (path: string): string => {
  const { dev, ino } = statSync(path);
  return `${dev}:${ino}`;
};

/** Checks that a container is in its state and has its mounts, with the same files as on the host. */
async function memberProblems(household: Household, name: string, { mounts, running }: Member): Promise<string[]> {
  const pid = await household.engine.pid(name);
  if (pid === undefined) return [`${name} is gone`];
  const found: string[] = [];
  if (pid > 0 !== running) found.push(`${name} ${running ? 'does not run any more' : 'runs'}`);
  const told = await household.engine.mounts(name);
  const words = (all: readonly { at: string; host: string; readOnly?: boolean }[]) =>
    all
      .map(({ at, host, readOnly }) => `${at} ${host}${readOnly ? ' read-only' : ''}`)
      .sort()
      .join(', ');
  if (words(told) !== words(mounts)) found.push(`${name} has mounted ${words(told)} instead of ${words(mounts)}`);
  if (pid === 0) return found;
  for (const { at, path } of await realMounts(household, mounts)) {
    const seen = `/proc/${pid}/root/${at}`;
    if (!isThere(path) || inode(seen) !== inode(path)) found.push(`${name} sees at ${at} something else than ${path}`);
  }
  return found;
}

/** Checks after every step. */
export async function invariants(household: Household): Promise<string[]> {
  const { engine, members, kept, a } = household;
  const found: string[] = [];
  for (const [name, member] of members) found.push(...(await memberProblems(household, name, member)));
  const hidden = (await engine.names()).filter((name) => !members.has(name));
  const aside = household.graph.kind === 'docker' ? kept.filter(({ member }) => member !== undefined).length : 0;
  if (hidden.length !== aside) found.push(`${aside} containers are kept for an undo, and there are ${hidden.join(', ') || 'none'}`);
  const journals = await journalsOf(a);
  if (journals.length !== kept.length) found.push(`${kept.length} undos are kept, by ${journals.length} journals`);
  const own = (await lookAround(household)).own.filter((path) => !path.endsWith('/.container-backup-share'));
  if (kept.length === 0 && own.length > 0) found.push(`left behind: ${own.join(', ')}`);
  if (!isThere(`${household.graph.media}/.container-backup-share`)) found.push('the share has lost its marker');
  return found;
}
