/** Running containers of any engine, by what their processes see: an engine knows only its own. */
import { readdir, readFile } from 'node:fs/promises';
import { type MountLine, parseMountinfo } from './mounts.js';
import { within } from './paths.js';
import { isAbsent } from './places.js';
import type { PlaceUser } from './swap/index.js';

export interface Neighbour {
  readonly engine: 'docker' | 'lxc' | 'podman';
  /** Docker, Podman: its id. LXC: its name, with a number where another one of that name has run. */
  readonly id: string;
  /** Its root on this machine; undefined where that is none of its folders. */
  readonly root: string | undefined;
  /** Folders and files of this machine that are mounted in it. */
  readonly paths: readonly string[];
}

const mountLines = async (pid: string): Promise<MountLine[]> => parseMountinfo(await contentOf(`/proc/${pid}/mountinfo`));

/** '' for a process that has ended meanwhile. */
async function contentOf(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (isAbsent(error) || code === 'ESRCH' || code === 'EINVAL') return '';
    throw error;
  }
}

/** How each engine names the control group of a container (cgroupfs and systemd drivers). */
const groups: readonly (readonly [Neighbour['engine'], RegExp])[] = [
  ['docker', /\/docker[/-]([0-9a-f]{64})(\.scope)?(\/|$)/m],
  ['podman', /\/libpod-([0-9a-f]{64})(\.scope)?(\/|$)/m],
  ['lxc', /\/lxc\.payload[./]([^/\n]+)(\/|$)/m],
];

/** Where what is mounted in a container lies here; undefined when this machine has it mounted nowhere. */
function hostPath(own: readonly MountLine[], { device, root }: MountLine): string | undefined {
  const holding = own.filter((one) => one.device === device && within(root, one.root));
  const closest = holding.toSorted((a, b) => b.root.length - a.root.length)[0];
  if (closest === undefined) return undefined;
  const rest = root.slice(closest.root === '/' ? 1 : closest.root.length + 1);
  return rest === '' ? closest.point : `${closest.point === '/' ? '' : closest.point}/${rest}`;
}

/** What containers of other engines have mounted while they run.
 *  @param isOwn whether it is one of the caller's, who knows more of it */
export async function neighbourUsers(isOwn: (neighbour: Neighbour) => boolean): Promise<readonly PlaceUser[]> {
  const others = (await runningNeighbours()).filter((one) => !isOwn(one));
  return others.flatMap(({ engine, id, paths }) => {
    const container = engine === 'lxc' ? `LXC container ${id}` : `${engine} container ${id.slice(0, 12)}`;
    return paths.map((path) => ({ container, running: true, path }));
  });
}

/** How many processes are looked at together: each look is a few short waits. */
const atOnce = 64;

/** Each process with its control groups, the oldest number first. */
async function* processes(): AsyncGenerator<readonly [pid: string, cgroup: string]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  for (let at = 0; at < pids.length; at += atOnce)
    yield* await Promise.all(pids.slice(at, at + atOnce).map(async (pid) => [pid, await contentOf(`/proc/${pid}/cgroup`)] as const));
}

/** All that run at the moment. */
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
      if (root === '/') continue; // it is being started: it is in its group, and still sees all of this machine
      if (paths.length > 0) found.set(`${engine}/${id}`, { engine, id, root, paths: [...new Set(paths)] });
    }
  }
  return [...found.values()];
}
