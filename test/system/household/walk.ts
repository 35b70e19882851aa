/** A random walk through a household: changes, backups, losses, restores and undos. Each step is checked. */
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { mountPoints } from '../../../plugins/shared/mounts.js';
import { within } from '../../../plugins/shared/paths.js';
import type { Appliance } from '../../support/appliance.js';
import { backUp, makeJob } from '../fidelity/bench.js';
import { type Engine, makeFolders } from './engines.js';
import { type ContainerWish, Dice, type Graph, graphOf, type Kind } from './graph.js';
import { type Entry, entryOf, type Files, isOwn, isThere, treeIn } from './look.js';
import { heldOf, rootHeld, storedSources } from './model.js';
import { dropUndo, restoreAs, undo } from './restore.js';
import { type Household, invariants, lookAround, realMounts, usersOf } from './state.js';

type Step = (household: Household) => Promise<string[] | undefined>;

/** Changes content in a few folders of the household, excluded ones and roots included. */
const change: Step = async ({ graph, dice, engine, members, said }) => {
  const volumes = [...(await engine.volumes()).values()];
  const folders = [...graph.folders, ...graph.mounts.map(({ at }) => at), ...volumes].filter(isThere);
  const stamp = said.length;
  for (const folder of dice.some(folders, 4)) {
    writeFileSync(`${folder}/${dice.pick(['one', 'two.tmp', `new-${stamp}`])}`, `${folder} at ${stamp}`);
    if (dice.chance(30)) mkdirSync(`${folder}/cache`, { recursive: true });
    if (dice.chance(30)) writeFileSync(`${folder}/${dice.pick(['x.tmp', 'y'])}`, `${folder} at ${stamp}`);
  }
  const [name] = dice.some([...members.keys()], 1);
  if (name !== undefined) {
    const pid = (await engine.pid(name)) ?? 0;
    const own = pid > 0 ? `/proc/${pid}/root/own` : await engine.own(name);
    mkdirSync(`${own}/cache`, { recursive: true });
    for (const file of ['one', 'cache/one']) writeFileSync(`${own}/${file}`, `${name} at ${stamp}`);
  }
  return [];
};

const allThere = async (household: Household, wish: ContainerWish): Promise<boolean> =>
  (await realMounts(household, wish.mounts)).every(({ path }) => isThere(path));

/** The folders of the household above a path. */
function parentsIn({ graph }: Household, path: string): Files {
  const parents = new Map<string, Entry>();
  for (let above = dirname(path); within(above, graph.top) || within(above, graph.media); above = dirname(above))
    parents.set(above, entryOf(above));
  return parents;
}

const takeRun: Step = async (household) => {
  const { a, graph, dice, members, runs, jobs, engine } = household;
  const able: ContainerWish[] = [];
  for (const { wish } of members.values()) if (jobs.has(wish.name) && (await allThere(household, wish))) able.push(wish);
  if (able.length === 0) return undefined;
  const wish = dice.pick(able);
  const run = await backUp(a.service, jobs.get(wish.name) ?? 0);
  const mounts = await realMounts(household, wish.mounts);
  const stored = storedSources(graph.kind, wish, mounts, household.points);
  const isRootHeld = rootHeld(wish);
  runs.push({
    wish,
    portfolio: `${wish.name}/${run}`,
    running: members.get(wish.name)?.running ?? false,
    mounts,
    sources: stored.map((source) => ({
      parents: parentsIn(household, source.path),
      source,
      held: heldOf(treeIn(source.path), (path) => source.isHeld(path) || source.isPoint(path)),
    })),
    root: heldOf(treeIn(await engine.own(wish.name)), isRootHeld),
    isRootHeld,
  });
  return [];
};

const loseFiles: Step = async ({ graph, dice }) => {
  const folders = graph.folders.filter((one) => isThere(one) && statSync(one).isDirectory());
  for (const folder of dice.some(folders, 3)) {
    for (const name of readdirSync(folder)) {
      if (!isOwn(name) && statSync(`${folder}/${name}`, { throwIfNoEntry: false })?.isFile() && name !== 'conf' && dice.chance(60))
        rmSync(`${folder}/${name}`);
    }
  }
  return [];
};

/** The folders and files that may be removed: no running container mounts them, and they hold no mount point and nothing of an undo. */
async function losable(household: Household, paths: readonly string[]): Promise<string[]> {
  const { own } = await lookAround(household);
  const shown = household.graph.mounts.flatMap(({ from }) => from ?? []);
  const able: string[] = [];
  for (const path of paths) {
    const inUse = (await usersOf(household, path, '')).some(({ running }) => running);
    const holds = [...household.points, ...shown, ...own].some((one) => within(one, path));
    if (isThere(path) && !inUse && !holds) able.push(path);
  }
  return able;
}

const loseFolder: Step = async (household) => {
  const able = await losable(household, [...household.graph.folders, ...household.graph.files]);
  if (able.length === 0) return undefined;
  const path = household.dice.pick(able);
  household.said.push(`  lost: ${path}`);
  rmSync(path, { recursive: true });
  return [];
};

/** Removes a container, and often its folders and volumes. */
const loseContainer: Step = async (household) => {
  const { dice, members, engine, said } = household;
  if (members.size === 0) return undefined;
  const name = dice.pick([...members.keys()]);
  const mounts = await realMounts(household, members.get(name)?.mounts ?? []);
  await engine.remove(name);
  members.delete(name);
  said.push(`  lost: ${name}`);
  const { gone, kept, graph } = household;
  if (graph.kind === 'lxc') for (const { container, member, restore } of kept) if (container === name && member) gone.add(restore); // the files for its undo lay in its folder
  if (dice.chance(50)) return [];
  for (const [volume, path] of await engine.volumes()) {
    const holds = readdirSync(dirname(path)).some(isOwn);
    if (!holds) await engine.removeVolume(volume).catch(() => undefined); // the engine refuses one in use
  }
  for (const path of await losable(
    household,
    mounts.filter(({ isVolume }) => !isVolume).map((mount) => mount.path),
  )) {
    if (!isThere(path)) continue; // removed together with another path
    said.push(`  lost: ${path}`);
    rmSync(path, { recursive: true });
  }
  return [];
};

const toggle: Step = async (household) => {
  const { dice, members, engine, said } = household;
  const able: string[] = [];
  for (const [name, { running, mounts, wish }] of members) if (running || (await allThere(household, { ...wish, mounts }))) able.push(name);
  if (able.length === 0) return undefined;
  const name = dice.pick(able);
  const member = members.get(name);
  if (member === undefined) return undefined;
  said.push(`  ${member.running ? 'stopped' : 'started'}: ${name}`);
  await (member.running ? engine.stop(name) : engine.start(name));
  members.set(name, { ...member, running: !member.running });
  return [];
};

/** Whether a restore could start the container again: all its mounts exist, or it does not run. */
async function canStart(household: Household, name: string): Promise<boolean> {
  const member = household.members.get(name);
  return !member?.running || allThere(household, { ...member.wish, mounts: member.mounts });
}

const restoreOwn: Step = async (household) => {
  const { dice, runs } = household;
  if (runs.length === 0) return undefined;
  const run = dice.pick(runs);
  if (!(await canStart(household, run.wish.name))) return undefined;
  return restoreAs(household, run, run.wish.name);
};

const clone: Step = async (household) => {
  const { dice, runs } = household;
  if (runs.length === 0) return undefined;
  const run = dice.pick(runs);
  const name = `${run.wish.name}-clone`;
  if (!(await canStart(household, name))) return undefined;
  return restoreAs(household, run, name);
};

const undoOne: Step = async (household) => (household.kept.length === 0 ? undefined : undo(household, household.dice.pick(household.kept)));
const dropOne: Step = async (household) =>
  household.kept.length === 0 ? undefined : dropUndo(household, household.dice.pick(household.kept));

const steps: readonly (readonly [name: string, weight: number, step: Step])[] = [
  ['change', 12, change],
  ['back up', 12, takeRun],
  ['lose files', 8, loseFiles],
  ['lose a folder', 8, loseFolder],
  ['lose a container', 9, loseContainer],
  ['stop or start', 7, toggle],
  ['restore', 26, restoreOwn],
  ['clone', 6, clone],
  ['undo', 14, undoOne],
  ['drop', 3, dropOne],
];

/** Picks a step of the table by weight. */
function chosen(dice: Dice): (typeof steps)[number] {
  let at = dice.roll(steps.reduce((sum, [, weight]) => sum + weight, 0));
  for (const step of steps) {
    at -= step[1];
    if (at < 0) return step;
  }
  throw new Error('the weights do not add up');
}

/** The excludes of a job that name sources of its container. */
function withKnownExcludes(wish: ContainerWish, names: ReadonlySet<string>): ContainerWish {
  const known = (one: string) => one.split(':').some((word, n) => n < 2 && names.has(word));
  return { ...wish, exclude: wish.exclude.filter(known) };
}

async function moveIn(household: Household): Promise<void> {
  const { a, graph, engine, members, jobs } = household;
  for (const wish of graph.containers) {
    await engine.make(wish);
    const mounts = await realMounts(household, wish.mounts);
    const sources = storedSources(graph.kind, { ...wish, exclude: [] }, mounts, []);
    const known = withKnownExcludes(wish, new Set(['rootfs', ...sources.map(({ name }) => name)]));
    members.set(wish.name, { wish: known, mounts: wish.mounts, running: wish.running });
    jobs.set(wish.name, await makeJob(a.service, { name: wish.name, container: wish.name, type: graph.kind, exclude: known.exclude }));
  }
}

async function moveOut({ a, engine, members, kept, jobs }: Household): Promise<void> {
  for (const { restore } of kept) await a.service.ask('DELETE', `/restore/${restore}/undo`);
  for (const name of members.keys()) await engine.remove(name);
  for (const name of await engine.names()) await engine.remove(name);
  for (const volume of (await engine.volumes()).keys()) await engine.removeVolume(volume);
  for (const job of jobs.values()) await a.service.ask('DELETE', `/backup/${job}`);
}

export interface Bed {
  readonly a: Appliance;
  readonly engine: Engine;
  readonly kind: Kind;
  readonly media: string;
}

const describe = ({ name, running, mounts, exclude }: ContainerWish): string =>
  `${name} ${running ? 'runs' : 'stands'}: ${mounts.map(({ at, host }) => `${at}=${host}`).join(' ')} without ${exclude.join(' ') || 'excludes'}`;

export interface Walked {
  /** Descriptions of the steps. */
  readonly said: readonly string[];
  /** Problems of the last step. */
  readonly problems: readonly string[];
}

/** Walks through the household of a seed, up to the first problem. */
export async function walk({ a, engine, kind, media }: Bed, seed: number, length: number): Promise<Walked> {
  const prefix = `${kind[0]}${seed}`;
  const graph: Graph = graphOf(seed, { kind, top: `${a.folder}/${prefix}`, media, prefix, lxcPath: a.lxcPath });
  await using _folders = await makeFolders(graph);
  const said = graph.containers.map(describe);
  const household: Household = {
    a,
    engine,
    graph,
    dice: new Dice(seed ^ 0x5eed),
    points: await mountPoints(),
    jobs: new Map(),
    restores: new Map(),
    gone: new Set(),
    members: new Map(),
    runs: [],
    kept: [],
    said,
  };
  try {
    await moveIn(household);
    for (const [name, step] of [
      ['change', change],
      ['back up', takeRun],
      ['back up', takeRun],
      ['change', change],
    ] as const)
      await taken(household, name, step);
    for (let n = 0; n < length; n += 1) {
      const [name, , step] = chosen(household.dice);
      const problems = await taken(household, name, step);
      if (problems.length > 0) return { said, problems };
    }
    return { said, problems: [] };
  } catch (error) {
    return { said, problems: [String(error instanceof Error ? error.stack : error)] };
  } finally {
    await moveOut(household);
  }
}

async function taken(household: Household, name: string, step: Step): Promise<string[]> {
  household.said.push(name);
  const problems = await step(household);
  if (problems === undefined) household.said.pop();
  return problems === undefined ? [] : [...problems, ...(await invariants(household))];
}
