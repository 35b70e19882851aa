/** Running containers of all engines, found through their processes: an engine knows only its own containers. */
import { readdir, readFile } from 'node:fs/promises';
import { type MountLine, parseMountinfo } from './mounts.js';
import { within } from './paths.js';
import { isAbsent } from './presence.js';
import type { PlaceUser } from './swap/index.js';

export interface Neighbour {
  readonly engine: 'docker' | 'lxc' | 'podman';
  /** Docker and Podman: the id. LXC: the name, with a number if another container of that name has run before. */
  readonly id: string;
  /** The root's path on this machine; undefined when no mount of this machine shows it. */
  readonly root: string | undefined;
  /** Folders and files of this machine that the container mounts. */
  readonly paths: readonly string[];
}

const mountLines = async (pid: string): Promise<MountLine[]> => parseMountinfo(await contentOf(`/proc/${pid}/mountinfo`));

/** The file's content; '' for a process that has ended. */
async function contentOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (isAbsent(error) || code === 'ESRCH' || code === 'EINVAL') return '';
    throw error;
  }
}

/** A container's control group, by engine (cgroupfs and systemd drivers). */
const groups: readonly (readonly [Neighbour['engine'], RegExp])[] = [
  ['docker', /\/docker[/-]([0-9a-f]{64})(\.scope)?(\/|$)/m],
  ['podman', /\/libpod-([0-9a-f]{64})(\.scope)?(\/|$)/m],
  ['lxc', /\/lxc\.payload[./]([^/\n]+)(\/|$)/m],
];

/** The path on this machine of what a container mounts; undefined when this machine mounts it nowhere. */
function hostPath(own: readonly MountLine[], { device, root }: MountLine): string | undefined {
  const holding = own.filter((one) => one.device === device && within(root, one.root));
  const closest = holding.toSorted((a, b) => b.root.length - a.root.length)[0];
  if (closest === undefined) return undefined;
  const rest = root.slice(closest.root === '/' ? 1 : closest.root.length + 1);
  return rest === '' ? closest.point : `${closest.point === '/' ? '' : closest.point}/${rest}`;
}

/** The mounts of other engines' running containers.
 *  @param isOwn whether a container is one of the caller's own, which the caller lists itself */
export async function neighbourUsers(isOwn: (neighbour: Neighbour) => boolean): Promise<readonly PlaceUser[]> {
  const others = (await runningNeighbours()).filter((one) => !isOwn(one));
  return others.flatMap(({ engine, id, paths }) => {
    const container = engine === 'lxc' ? `LXC container ${id}` : `${engine} container ${id.slice(0, 12)}`;
    return paths.map((path) => ({ container, running: true, path }));
  });
}

/** How many processes to read at once; each read is a few short waits. */
const atOnce = 64;

/** Each process with its control groups, lowest process id first. */
async function* processes(): AsyncGenerator<readonly [pid: string, cgroup: string]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  for (let at = 0; at < pids.length; at += atOnce)
    yield* await Promise.all(pids.slice(at, at + atOnce).map(async (pid) => [pid, await contentOf(`/proc/${pid}/cgroup`)] as const));
}

/** All running containers. */
async function runningNeighbours(): Promise<readonly Neighbour[]> {
  const own = await mountLines('self');
  const found = new Map<string, Neighbour>();
  for await (const [pid, cgroup] of processes()) {
    for (const [engine, pattern] of groups) {
      const id = pattern.exec(cgroup)?.[1];
      if (id === undefined || found.has(`${engine}/${id}`)) continue;
      const mounts = (await mountLines(pid)).map((line) => ({ point: line.point, path: hostPath(own, line) }));
      const paths = mounts.map(({ path }) => path).filter((path) => path !== undefined);
      const root = mounts.find(({ point }) => point === '/')?.path;
      if (root === '/') continue; // a starting container: it is in its group but still has this machine's root
      if (paths.length > 0) found.set(`${engine}/${id}`, { engine, id, root, paths: [...new Set(paths)] });
    }
  }
  return [...found.values()];
}
