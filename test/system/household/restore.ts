/** Restores and undos in a household. The model predicts each result, and the files must match it. */
import { within } from '../../../plugins/shared/paths.js';
import { type Body, isBody, part } from '../../support/api-client.js';
import { type MountWish, sourceName } from './graph.js';
import { type Entry, type Files, isThere, treeIn, unlike, type Wanted } from './look.js';
import { type Coming, expected, heldOf, listedMounts, mixed, type RealMount, type Run } from './model.js';
import { goalOf, type Household, type Kept, lookAround, type Member, realMounts, rootsOf, usersOf } from './state.js';

type Action = 'restore' | 'keep' | 'join' | 'copy';

interface Place {
  readonly source: string;
  readonly action: Action;
  readonly after: string;
}

function placesIn(value: unknown): Place[] {
  const places = part(value, 'places');
  return (Array.isArray(places) ? places : []).map((one) => {
    const action = (['restore', 'keep', 'join', 'copy'] as const).find((known) => known === part(one, 'action')) ?? 'keep';
    return { source: String(part(one, 'source')), action, after: String(part(one, 'after')) };
  });
}

const codesOf = (plan: unknown): unknown[] => {
  const conflicts = part(plan, 'conflicts');
  return (Array.isArray(conflicts) ? conflicts : []).map((one) => part(one, 'code'));
};

interface Foreseen {
  readonly actions: ReadonlyMap<string, Action>;
  readonly inUse: boolean;
  readonly missing: boolean;
  /** Folders that must exist for an LXC container to start. */
  readonly empty: readonly string[];
}

const none: Entry = { type: 'folder', rights: '', mtime: 0n, content: '', inode: '' };

/** The table of docs/plugins.md: the action for each source. */
async function foresee(household: Household, run: Run, target: string): Promise<Foreseen> {
  const { members, graph } = household;
  const there = members.get(target);
  const isClone = target !== run.wish.name;
  const held = new Map(run.sources.map(({ source }) => [source.name, source]));
  const actions = new Map<string, Action>([['rootfs', 'restore']]);
  let [inUse, missing] = [false, false];
  const empty: string[] = [];
  const parts: { readonly mount: RealMount; readonly isThereNow: boolean }[] = [];
  const listed = new Set(listedMounts(graph.kind, run.mounts).map(({ at }) => at));
  for (const mount of await realMounts(household, run.wish.mounts)) {
    const name = sourceName(graph.kind, mount);
    const current = there?.mounts.find(({ at }) => at === mount.at);
    const [real] = await realMounts(household, [current ?? mount]);
    const path = real?.path ?? mount.path;
    const isOwn = graph.kind === 'lxc' && mount.isVolume;
    const users = isOwn && isClone && there === undefined ? [] : await usersOf(household, path, target); // else the volume lies in the clone's own folder
    let action: Action = 'keep';
    if (held.has(name)) {
      if (there !== undefined || isOwn) action = 'restore';
      else if (isClone)
        action = graph.kind === 'lxc' || !mount.isVolume ? (isFree(path) && users.length === 0 ? 'restore' : 'copy') : 'copy';
      else action = users.length > 0 && isThere(path) ? 'join' : 'restore';
    } else if (isOwn && there === undefined) {
      missing = true;
      empty.push(`${household.a.lxcPath}/${target}/volumes/data`);
    } else if (!listed.has(mount.at)) parts.push({ mount, isThereNow: isThere(path) });
    else if (!isThere(path)) missing = true;
    actions.set(name, action);
    if (action === 'restore' && users.some(({ running }) => running) && path.startsWith('/')) inUse = true;
  }
  missing ||= parts.some(({ mount, isThereNow }) => !staysOrComes(run, mount, actions, isThereNow));
  return { actions, inUse, missing, empty };
}

/** Whether a mount that is no source exists after the restore. It exists when the run holds it as a part of its source, or when the
 *  excludes leave it as it is. */
function staysOrComes({ sources }: Run, { path }: RealMount, actions: Foreseen['actions'], isThereNow: boolean): boolean {
  const holding = sources.filter(({ source }) => within(path, source.path));
  const outer = holding.toSorted((a, b) => b.source.path.length - a.source.path.length)[0];
  const action = outer && actions.get(outer.source.name);
  if (outer === undefined || (action !== 'restore' && action !== 'copy')) return isThereNow;
  const relative = path.slice(outer.source.path.length + 1);
  return outer.source.isHeld(relative) ? outer.held.has(relative) : action === 'restore' && isThereNow;
}

/** Whether the path is missing or empty, so that a restore may write there. */
const isFree = (path: string): boolean => treeIn(path).size === 0 || (treeIn(path).size === 1 && treeIn(path).get('')?.type === 'folder');

/** The path of a mount that is a part of another mount: inside that one's folder. Of several, the one with its path counts. */
function asPart(
  { graph }: Household,
  run: Run,
  mount: MountWish,
  places: readonly Place[],
  isNew: boolean,
): Member['mounts'][number] | undefined {
  const path = run.mounts.find(({ at }) => at === mount.at)?.path ?? '';
  const holding = run.mounts.filter((one) => one.at !== mount.at && within(path, one.path));
  const [same, named] = [holding.filter((one) => one.path === path), holding.filter((one) => within(mount.host, one.host))];
  for (const outer of [...same, ...named, ...holding]) {
    const place = places.find(({ source }) => source === sourceName(graph.kind, outer));
    if (place) return { ...mount, host: place.after + path.slice(outer.path.length), readOnly: place.action === 'keep' && isNew };
  }
  return undefined;
}

/** The member after the restore. A clone has copies. */
function memberAfter(household: Household, run: Run, target: string, places: readonly Place[], starts: boolean): Member {
  const before = household.members.get(target);
  const isClone = target !== run.wish.name;
  const mounts = run.wish.mounts.map((mount) => {
    const name = sourceName(household.graph.kind, mount);
    const place = places.find(({ source }) => source === name);
    const current = before?.mounts.find(({ at }) => at === mount.at);
    if (!isClone) return mount;
    if (place === undefined) return asPart(household, run, mount, places, current === undefined) ?? { ...mount, ...current };
    return {
      ...mount,
      host: place.after,
      readOnly: place.action === 'keep' && current === undefined && !(household.graph.kind === 'lxc' && mount.isVolume),
    };
  });
  return { wish: { ...run.wish, name: target }, mounts, running: before?.running ?? starts };
}

async function cameOf(household: Household, run: Run, places: readonly Place[]): Promise<Coming[]> {
  const volumes = await household.engine.volumes();
  return run.sources.flatMap((one) => {
    const place = places.find(({ source }) => source === one.source.name);
    if (place === undefined || place.action === 'keep' || place.action === 'join') return [];
    const path = place.after.startsWith('/') ? goalOf(place.after) : (volumes.get(place.after) ?? place.after);
    return [{ ...one, path }];
  });
}

const src = (portfolio: string) => ({ target: 'local', path: '/test/backups', portfolio });

/** Asserts that no file changed. */
const untouched = (files: Files): Map<string, Wanted> => new Map([...files].map(([path, entry]) => [path, { entry, same: true }]));

interface Planned {
  readonly plan: unknown;
  readonly places: readonly Place[];
  readonly problems: string[];
}

/** Checks that the plan agrees with the table and changes nothing. */
async function planned(household: Household, body: Body, foreseen: Foreseen, before: Files): Promise<Planned> {
  const plan = await household.a.service.call('POST', '/restore/plan', body);
  const problems = unlike(untouched(before), (await lookAround(household)).files);
  const places = placesIn(plan);
  const got = places.map(({ source, action }) => `${source} ${action}`).sort();
  // a mount that is a part of another one is no source
  const named = [...foreseen.actions].filter(([name]) => places.some(({ source }) => source === name));
  const wanted = named.map(([name, action]) => `${name} ${action}`).sort();
  if (wanted.join() !== got.join()) problems.push(`planned ${got.join(', ')} instead of ${wanted.join(', ')}`);
  const isBlocked = codesOf(plan).includes('volume_in_use');
  if (isBlocked !== foreseen.inUse) problems.push(`the plan ${isBlocked ? 'tells' : 'does not tell'} volume_in_use`);
  household.said.push(`  ${body.container_id}: ${got.join(', ')}`);
  return { plan, places, problems };
}

/** Runs a new restore job, or an old one again. @returns its id and its last state */
async function ran({ a, dice, restores, said }: Household, body: Body): Promise<{ id: number; state: Body }> {
  const key = JSON.stringify(body);
  const known = restores.get(key);
  const again = known !== undefined && dice.chance(50);
  const id = again ? known : await a.service.create('restore', body);
  if (again) await a.service.call('PUT', `/restore/${id}/run`);
  restores.set(key, id);
  const state = await a.service.settled('restore', id);
  said.push(`  restore ${id}${again ? ' again' : ''}: ${state.result === 0 ? 'done' : JSON.stringify(state.error)}`);
  return { id, state };
}

/** What an undo must bring back in the places, and remove above them. */
function replaced(before: Files, came: readonly Coming[]): Pick<Kept, 'came' | 'made'> {
  const was = ({ source, path }: Coming) => heldOf(partOf(before, path), (one) => source.isHeld(one) || source.isPoint(one));
  const parents = came.flatMap((one) => [...one.parents.keys()]);
  return { came: came.map((one) => ({ ...one, held: was(one) })), made: parents.filter((one) => !before.has(one)) };
}

/** Restores a run under a name and checks everything. @returns problems */
export async function restoreAs(household: Household, run: Run, target: string): Promise<string[]> {
  const body: Body = { job_name: `r-${target}`, container_id: target, type: household.graph.kind, src: src(run.portfolio) };
  const foreseen = await foresee(household, run, target);
  const [before, roots] = [(await lookAround(household)).files, await rootsOf(household)];
  const { plan, places, problems } = await planned(household, body, foreseen, before);
  const { id, state } = await ran(household, body);
  if (state.result !== 0) {
    const isForeseen = foreseen.inUse && part(state.error, 'code') === 'in_use';
    if (!isForeseen) problems.push(`the restore failed: ${JSON.stringify(state.error)}`);
    return [...problems, ...unlike(untouched(before), (await lookAround(household)).files).map((one) => `after a refusal ${one}`)];
  }
  if (foreseen.inUse) problems.push('it was to be refused with in_use');
  const told = [part(state, 'places'), part(plan, 'places')].map((one) => JSON.stringify(one));
  if (told[0] !== told[1]) problems.push(`the result's places are not the plan's: ${told.join(' ')}`);
  const came = await cameOf(household, run, places);
  const member = household.members.get(target);
  household.members.set(target, memberAfter(household, run, target, places, run.running && !foreseen.missing));
  const after = (await lookAround(household)).files;
  const wanted = expected(before, came, household.points);
  for (const path of foreseen.empty) wanted.set(path, { entry: after.get(path) ?? none, same: false });
  problems.push(...freshCopies(before, places, household), ...unlike(wanted, after));
  problems.push(...(await rootProblems(household, roots, target, (root) => mixed(run.root, root, run.isRootHeld))));
  const hasUndo = isBody(part(state, 'undo'));
  if (!hasUndo && member !== undefined) problems.push('it keeps nothing for an undo');
  const { kept } = household;
  kept.splice(0, kept.length, ...kept.filter(({ container }) => container !== target)); // only the latest restore of a container can be undone
  const root = roots.get(target) ?? new Map();
  if (hasUndo) kept.push({ restore: id, container: target, run, ...replaced(before, came), member, root });
  return problems;
}

function freshCopies(before: Files, places: readonly Place[], { graph }: Household): string[] {
  if (graph.kind === 'docker') return [];
  return places
    .filter(({ action, after }) => action === 'copy' && before.has(after))
    .map(({ after }) => `the copy ${after} was there before`);
}

/** The files below a path, by relative paths. */
function partOf(files: Files, path: string): Files {
  return new Map(
    [...files].flatMap(([one, entry]) =>
      one === path ? [['', entry] as const] : one.startsWith(`${path}/`) ? [[one.slice(path.length + 1), entry] as const] : [],
    ),
  );
}

async function rootProblems(
  household: Household,
  before: ReadonlyMap<string, Files>,
  target: string,
  change: (root: Files) => ReturnType<typeof mixed>,
): Promise<string[]> {
  const found: string[] = [];
  for (const [name, root] of await rootsOf(household)) {
    const was: Files = before.get(name) ?? new Map();
    const wanted = name === target ? change(was) : untouched(was);
    if (name === target) for (const [path, one] of wanted) wanted.set(path, { ...one, same: false }); // it has a new layer in the engine
    found.push(...unlike(wanted, root).map((line) => `root of ${name}: ${line}`));
  }
  return found;
}

/** Undoes a restore and checks everything. */
export async function undo(household: Household, one: Kept): Promise<string[]> {
  const { a, members, kept, said } = household;
  const { container, came, member, run } = one;
  let inUse = false;
  const going: Coming[] = []; // a folder that the restore made stays when another container mounts it
  for (const place of came) {
    const users = await usersOf(household, place.path, container);
    inUse ||= place.path.startsWith('/') && users.some(({ running }) => running);
    if (place.held.size > 0 || users.length === 0) going.push(place);
  }
  const [before, roots] = [await lookAround(household), await rootsOf(household)];
  const answer = await a.service.ask('PUT', `/restore/${one.restore}/undo`);
  said.push(`  undo of ${one.restore} (${container}): ${answer.status} ${answer.status < 400 ? '' : answer.text}`);
  if (answer.status >= 400) {
    const problems = unlike(untouched(before.files), (await lookAround(household)).files).map((line) => `after a refused undo ${line}`);
    if (household.gone.has(one.restore)) return answer.status === 404 ? problems : [...problems, `an undo that is gone: ${answer.text}`];
    return inUse && answer.text.includes('is used by') ? problems : [...problems, `the undo failed: ${answer.text}`];
  }
  kept.splice(kept.indexOf(one), 1);
  if (member) members.set(container, member);
  else members.delete(container);
  const problems = inUse ? ['the undo was to be refused with in_use'] : [];
  const wanted = expected(before.files, going, household.points);
  for (const path of one.made.toSorted((a, b) => b.length - a.length)) {
    if (![...wanted.keys()].some((other) => other.startsWith(`${path}/`))) wanted.delete(path);
  }
  problems.push(...unlike(wanted, (await lookAround(household)).files));
  return [
    ...problems,
    ...(await rootProblems(household, roots, container, (root) => mixed(heldOf(one.root, run.isRootHeld), root, run.isRootHeld))),
  ];
}

export async function dropUndo(household: Household, one: Kept): Promise<string[]> {
  const before = await lookAround(household);
  const answer = await household.a.service.ask('DELETE', `/restore/${one.restore}/undo`);
  if (answer.status >= 400) return [`the drop failed: ${answer.text}`];
  household.kept.splice(household.kept.indexOf(one), 1);
  return unlike(untouched(before.files), (await lookAround(household)).files);
}
