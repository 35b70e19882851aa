/** Volumes with files outside the engine's own folder: a volume's options can bind a folder of this machine, a tmpfs or a server.
 *  The engine mounts it when a container starts and unmounts it when the last user stops; then the engine's own folder is
 *  empty. */
import { lstat, stat } from 'node:fs/promises';
import { type Conflict, PluginError, type RestorePlan } from '../../../../core/contract/index.js';
import { literalPattern, mountPoints, removeTree } from '../../../shared/mounts.js';
import { within } from '../../../shared/paths.js';
import { present, realPath } from '../../../shared/presence.js';
import {
  newPlaceMade,
  noteAbove,
  ownPrefix,
  type Parent,
  type Place,
  planParents,
  planPlace,
  removeHeld,
  removeParents,
  returnAbove,
  type Save,
} from '../../../shared/swap/index.js';
import { isSystemPath } from '../../../shared/system-paths.js';
import { type ClassifiedMount, classifyMount, type NamedMount, namedMounts, realPlace } from '../mounts.js';
import type { Client } from './client.js';
import { engine, volumeDevice } from './engine.js';
import type { Inspect } from './inspect.js';
import { type Fields, fields, text } from './json.js';

/** plain: in the engine's own folder · folder: a bind of `device`, a path of this machine · memory: a tmpfs, which stores nothing
 *  · server: nfs, cifs, a disk or a volume plugin; `what` names it without its options, which may hold a password. */
type Kind = { readonly kind: 'plain' } | { readonly kind: 'memory' } | { readonly kind: 'folder'; readonly device: string } | Server;
interface Server {
  readonly kind: 'server';
  readonly what: string;
}

/** @param told the engine's description of the volume */
function kindOf(told: Fields): Kind {
  const driver = text(told.Driver) || 'local';
  const { type, device } = fields(told.Options);
  if (driver !== 'local') return { kind: 'server', what: `volume driver ${driver}` };
  if (text(device) === '' && text(type) === '') return { kind: 'plain' };
  if (type === 'tmpfs') return { kind: 'memory' };
  const folder = volumeDevice(told);
  return folder === undefined ? { kind: 'server', what: `${text(type)} ${text(device)}`.trim() } : { kind: 'folder', device: folder };
}

/** The engine's description of a volume as the run stored it. */
export function volumeDescription(inspect: Inspect, volume: string): Fields {
  return inspect.beside.find((one) => text(one.Name) === volume && one.Mountpoint !== undefined) ?? {};
}

/** Reads a server's volume through its running container (/proc/PID/root). That path ends with the container, so a backup never
 *  stores the empty folder below the mount as the volume. */
async function judgeServer(mount: NamedMount, { pid, mounts }: Inspect, what: string): Promise<ClassifiedMount> {
  const inner = mounts.filter(({ destination }) => destination !== mount.destination && within(destination, mount.destination));
  const excludes = inner.map(({ destination }) => `${literalPattern(destination, mount.destination)}/*`);
  const found = { mount, kind: 'folder', excludes } as const;
  const path = `/proc/${pid}/root${mount.destination}`;
  const isThere = async () => (await mountPoints(pid)).includes(mount.destination) && !(await hasLink(path));
  if (pid > 0 && (await isThere().catch(() => false))) return { ...found, path }; // the container may stop at any time
  const unavailable = `Volume ${mount.volume} (${what}) is mounted only while its container runs: start it, or exclude volume:${mount.source_name}`;
  return { ...found, path: mount.source || mount.destination, unavailable };
}

/** Whether a symlink lies below /proc/PID/root: it would resolve to this machine's folders, not to the container's. */
async function hasLink(path: string): Promise<boolean> {
  const parts = path.split('/');
  for (let n = 5; n <= parts.length; n += 1) if ((await lstat(parts.slice(0, n).join('/'))).isSymbolicLink()) return true;
  return false;
}

async function judgeVolume(client: Client, mount: NamedMount, inspect: Inspect): Promise<ClassifiedMount> {
  const kind = kindOf((await engine.volume(client, mount.volume)) ?? {});
  if (kind.kind === 'memory') return { mount, leftOut: 'a tmpfs volume stores nothing' };
  if (kind.kind === 'server') return judgeServer(mount, inspect, kind.what);
  const source = kind.kind === 'folder' ? kind.device : mount.source;
  const path = await realPlace({ ...mount, source }, `Volume ${mount.volume}`);
  if (kind.kind === 'folder' && isSystemPath(path)) return { mount, leftOut: 'a path of the host system' };
  return { mount, kind: 'folder', path };
}

/** The mounts that belong to a backup, with the path to read each. @throws PluginError not_found: a path is gone */
export function classifyMounts(client: Client, inspect: Inspect): Promise<readonly ClassifiedMount[]> {
  return Promise.all(
    namedMounts(inspect).map((mount) => (mount.type === 'volume' ? judgeVolume(client, mount, inspect) : classifyMount(mount))),
  );
}

/** @throws PluginError unsupported for an existing volume whose files a restore must not replace */
export async function refuseServerVolume(client: Client, name: string): Promise<void> {
  const kind = kindOf((await engine.volume(client, name)) ?? {});
  if (kind.kind === 'server') throw new PluginError('unsupported', `${onServer(name, kind)}: ${elsewhere}, then restore again`);
}

const onServer = (name: string, { what }: Server) => `Volume ${name} lies on ${what}; a restore does not replace files there`;
const elsewhere = 'Give it another name by remap.volumes';

export interface NewVolume {
  readonly name: string;
  /** The volume's description in the run. */
  readonly told: Fields;
  readonly labels: Fields;
  /** Whether it is the run's own volume, not a clone's copy: two volumes never share one folder. */
  readonly same: boolean;
  /** Whether the run holds its files. */
  readonly held: boolean;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false; // an unreadable path counts as no folder
}

/** Whether a missing volume is created with its driver and options. It becomes a plain volume instead where the options lead to
 *  files that the restore must not overwrite, or to another container's files. */
async function keepsOptions({ told, same, held }: Omit<NewVolume, 'name' | 'labels'>): Promise<boolean> {
  const kind = kindOf(told);
  if (kind.kind === 'plain') return true;
  if (kind.kind === 'memory') return !held;
  if (kind.kind === 'server') return same && !held;
  if (!same) return false;
  const path = await realPath(kind.device);
  return !isSystemPath(path) && (held || (await isFolder(path)));
}

/** Whether a missing volume that the run does not hold has its files again once it is created. */
export async function comesBack(told: Fields): Promise<boolean> {
  return kindOf(told).kind !== 'plain' && (await keepsOptions({ told, same: true, held: false }));
}

/** Creates a volume. */
export async function makeVolume(client: Client, volume: NewVolume): Promise<void> {
  const { Driver, Options: DriverOpts } = volume.told;
  const led = (await keepsOptions(volume)) ? { Driver: text(Driver) || 'local', DriverOpts } : {};
  const how = Object.entries({ ...led, Labels: volume.labels }).filter(
    ([, value]) => typeof value === 'string' || Object.keys(fields(value)).length > 0,
  );
  await engine.createVolume(client, volume.name, Object.fromEntries(how));
}

/** Where the files of a new volume go. If its options bind a missing folder, that folder is filled directly. If the folder exists,
 *  the draft lies inside it, so that it is not empty: the engine copies an image's files into an empty volume. */
export async function placeNewVolume(
  client: Client,
  name: string,
  o: { readonly id: string; readonly excludes?: readonly string[]; readonly known?: readonly Parent[] },
): Promise<Place> {
  const volume = (await engine.volume(client, name)) ?? {};
  const device = volumeDevice(volume);
  if (device === undefined) return { ...newPlaceMade(text(volume.Mountpoint)), excludes: o.excludes ?? [] };
  const live = await realPath(device);
  const { excludes = [], known } = o;
  if (!(await present(live)))
    return { ...newPlaceMade(live), excludes, parents: await planParents(`${live}/.`, known), above: await noteAbove(live) };
  const scratch = `${live}/${ownPrefix}${o.id}`;
  return { ...(await planPlace(live, 'folder', o)), scratch, built: `${scratch}/new`, old: `${scratch}/old` };
}

/** Removes a volume's bound folder and the parents made for it. The folder stays if excluded files were written into it since. */
export async function removeMadeFolder(place: Place, save: Save): Promise<void> {
  const { way, live, parents, excludes, stays } = place;
  if (way !== 'made' || parents.length === 0 || stays) return;
  if ((await present(live)) && (await removeHeld(live, excludes))) return;
  await returnAbove(place, save, async () => {
    await removeTree(live);
    await removeParents({ parents: parents.slice(0, -1) });
  });
}

/** Volumes that the plan does not restore to where they were, because their files are not in the engine's own folder. */
export async function volumeKindConflicts(client: Client, plan: RestorePlan, inspect: Inspect): Promise<readonly Conflict[]> {
  if (plan.container !== plan.description.name) return []; // a clone gets plain volumes
  const held = new Set(plan.sources.map(({ name }) => name));
  const found: Conflict[] = [];
  for (const { type, volume, source_name } of namedMounts(inspect)) {
    if (type !== 'volume' || !held.has(source_name) || plan.remap?.volumes?.[source_name] !== undefined) continue;
    const told = volumeDescription(inspect, volume);
    const there = await engine.volume(client, volume);
    const kind = kindOf(plan.action === 'replace' ? (there ?? told) : told);
    if (plan.action === 'replace' && there !== undefined) {
      if (kind.kind === 'server') found.push({ code: 'volume_on_server', what: onServer(volume, kind), fix: elsewhere });
    } else if (there === undefined && !(await keepsOptions({ told, same: true, held: true }))) {
      if (kind.kind !== 'plain') found.push(movedConflict(volume, kind));
    }
  }
  return found;
}

function movedConflict(volume: string, kind: Kind): Conflict {
  const lay = kind.kind === 'folder' ? kind.device : kind.kind === 'server' ? kind.what : 'memory';
  const what = `Volume ${volume} pointed to ${lay}, which a restore does not overwrite: its files go into a plain volume of this machine`;
  return {
    code: 'volume_moved',
    what,
    fix: `Nothing needs to be done; or exclude volume:${volume} from backups, then a restore keeps its options`,
  };
}
