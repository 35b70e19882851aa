/** Requests of the fidelity suites to a service, and the comparison of what a restore brought back. */
import { basename, dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Body, notSoon, part } from '../../support/api-client.js';
import type { DemoService } from '../../support/demo-client.js';
import { pointsOf } from '../../support/depth.js';
import { differences, type Snapshot, snapshotOf } from '../../support/fidelity.js';

export type Tree = ReadonlyMap<string, Snapshot>;
/** The trees of a container by name: the root and each volume. */
export type Trees = Readonly<Record<string, Tree>>;
/** The path of each tree on the host. A path that ends in `:file` is a single file. */
export type Places = Readonly<Record<string, string>>;

export const singleFile = (path: string): string => `${path}:file`;

/** Reads a single file through its folder, and leaves out the folder itself: a swap of the file changes the folder's times. */
async function treeAt(place: string): Promise<Tree> {
  if (!place.endsWith(':file')) return snapshotOf(place);
  const path = place.slice(0, -':file'.length);
  const found = (await snapshotOf(dirname(path))).get(basename(path));
  return found ? new Map([['', found]]) : new Map();
}

export async function treesOf(places: Places): Promise<Trees> {
  const trees: [string, Tree][] = [];
  for (const [name, place] of Object.entries(places)) trees.push([name, await treeAt(place)]);
  return Object.fromEntries(trees);
}

/** One line for each difference, beginning with the name of its tree, without the `expected` ones of a clone. */
export function allDifferences(before: Trees, after: Trees, expected: readonly RegExp[] = []): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  const found = [...names].flatMap((name) =>
    differences(before[name] ?? new Map(), after[name] ?? new Map()).map((line) => `${name} ${line}`),
  );
  return found.filter((line) => !expected.some((pattern) => pattern.test(line)));
}

/** Location of a job's record. */
export interface LocationWish {
  readonly target: 'local' | 'remote';
  readonly path: string;
  readonly profile?: number;
}
const inShare: LocationWish = { target: 'local', path: '/test/backups' };

export interface JobWish {
  readonly name: string;
  readonly container: string;
  readonly type: 'lxc' | 'docker';
  readonly features?: readonly string[];
  readonly retention?: number;
  readonly exclude?: readonly string[];
  readonly location?: LocationWish;
}

export function makeJob(service: DemoService, { name, container, type, location = inShare, ...more }: JobWish): Promise<number> {
  return service.create('backup', {
    job_name: name,
    container_id: container,
    type,
    dest: location,
    at: notSoon(),
    ...more,
  });
}

/** Waits until new files count as old. A level stores again what changed within the second before its base, since ctime is coarse. So
 *  fresh files would hide what a level misses. */
export const settle = (): Promise<void> => sleep(1300);

/** Runs a backup. @returns the name of the run */
export async function backUp(service: DemoService, job: number): Promise<string> {
  const { run } = await service.backUp(job);
  if (typeof run !== 'string') throw new Error(`backup ${job} names no run`);
  return run;
}

export interface RestoreWish {
  readonly portfolio: string;
  readonly container: string;
  readonly type: 'lxc' | 'docker';
  readonly remap?: Body;
  readonly location?: LocationWish;
  readonly consent?: string;
}

const restoreBody = ({ portfolio, container, type, remap, location = inShare, consent }: RestoreWish): Body => ({
  container_id: container,
  type,
  src: { ...location, portfolio },
  ...(remap && { remap }),
  ...(consent !== undefined && { consent }),
});

/** Restores and waits for the end. @returns the full state @throws Error when the run failed */
export async function restore(service: DemoService, wish: RestoreWish): Promise<Body> {
  const id = await service.create('restore', { job_name: `restore of ${wish.container}`, ...restoreBody(wish) });
  return service.ended('restore', id);
}

export function restorePlan(service: DemoService, wish: RestoreWish): Promise<unknown> {
  return service.call('POST', '/restore/plan', { job_name: 'plan', ...restoreBody(wish) });
}

/** Adds the consent that the plan of another appliance's backup asks for. */
export async function consented(service: DemoService, wish: RestoreWish): Promise<RestoreWish> {
  const consent = part(await restorePlan(service, wish), 'consent');
  return { ...wish, ...(typeof consent === 'string' && { consent }) };
}

/** The manifest's archives of a source, as `level path`. */
export async function levelsOf(service: DemoService, job: number, run: string, source: string): Promise<string[]> {
  const archives = part(await service.call('GET', `/backup/${job}/runs/${run}`), 'archives');
  const all: readonly unknown[] = Array.isArray(archives) ? archives : [];
  return all.filter((one) => part(one, 'source') === source).map((one) => `${part(one, 'level')} ${part(one, 'path')}`);
}

/** Every combination of a job's features. */
export const featureSets = [[], ['compress'], ['pause'], ['compress', 'pause']] as const;

const { everyCell } = pointsOf('fidelity');

/** How the nth cell is restored: in both ways, or in one of them by turns. */
export const waysOf = (n: number): { readonly inPlace: boolean; readonly clone: boolean } => ({
  inPlace: everyCell || n % 2 === 0,
  clone: everyCell || n % 2 === 1,
});
