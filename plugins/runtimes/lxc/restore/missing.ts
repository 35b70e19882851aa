/** Mounts with a missing source after a restore. LXC starts no container that has one, unless the mount is optional. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { MissingMount } from '../../../shared/conflicts.js';
import { within } from '../../../shared/paths.js';
import { isPartial } from '../../../shared/placement.js';
import { present, realPath } from '../../../shared/presence.js';
import { excludedPaths } from '../../../shared/swap/carry.js';
import { toLatin1 } from '../../../shared/swap/index.js';
import { mountEntry, rootOf, settings } from '../config.js';
import { mountpointOf } from '../volumes.js';
import { newConfig } from './layout.js';
import type { Decision, Ground } from './placement.js';

/** A mount that is no source of the backup. */
interface OtherMount extends MissingMount {
  /** Its path with symlinks resolved. */
  readonly real: string;
}

/** The bind mounts that must exist when the container starts, by its configuration after the restore. */
async function neededMounts(text: string): Promise<OtherMount[]> {
  const root = rootOf(text)?.path;
  const found: OtherMount[] = [];
  for (const { key, value } of settings(text)) {
    const entry = key === 'lxc.mount.entry' ? mountEntry(value) : undefined;
    const isBind = entry?.options.some((one) => one === 'bind' || one === 'rbind') && entry.source.startsWith('/');
    if (!entry || !isBind || entry.options.includes('optional')) continue;
    found.push({ after: entry.source, mountpoint: mountpointOf(entry, root), real: await realPath(entry.source) });
  }
  return found;
}

/** Those of the paths below a folder that a run leaves out. Uses the matching of a swap: it makes the paths in a scratch tree. */
async function leftOut(paths: readonly string[], excludes: readonly string[], workFolder: string): Promise<readonly string[]> {
  if (paths.length === 0) return [];
  const tree = await mkdtemp(join(workFolder, 'paths-'));
  try {
    for (const path of paths) await mkdir(join(tree, path), { recursive: true });
    const found = await excludedPaths(tree, excludes);
    return paths.filter((path) => found.some((one) => within(toLatin1(path), one)));
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

/** Missing mounts that are no source. A folder inside a volume is stored with it unless the job excludes that part; a mount from
 *  elsewhere, like a device, is never stored. */
async function missingOthers(ground: Ground, decisions: readonly Decision[], text: string): Promise<MissingMount[]> {
  const { folder, current, workFolder } = ground;
  const root = await realPath(rootOf(current ?? '')?.path ?? join(folder, 'rootfs'));
  const places = await Promise.all(decisions.map(async ({ after, source }) => ({ source, path: await realPath(after) })));
  places.sort((a, b) => b.path.length - a.path.length); // innermost first
  const absent: OtherMount[] = [];
  const below = new Map<(typeof places)[number], OtherMount[]>();
  for (const mount of await neededMounts(text)) {
    const place = places.find(({ path }) => within(mount.real, path));
    if (place?.path === mount.real || within(mount.real, root) || (await present(mount.real))) continue;
    if (place?.source === undefined) absent.push(mount);
    else below.set(place, [...(below.get(place) ?? []), mount]);
  }
  for (const [{ path, source }, mounts] of below) {
    const inner = ({ real }: OtherMount) => real.slice(path.length + 1);
    const gone = await leftOut(mounts.map(inner), source?.excludes ?? [], workFolder);
    absent.push(...mounts.filter((mount) => gone.includes(inner(mount))));
  }
  return absent.map(({ after, mountpoint }) => ({ after, mountpoint }));
}

/** Sources that are kept but missing, then other missing mounts. */
export async function missingMounts(ground: Ground, decisions: readonly Decision[]): Promise<readonly MissingMount[]> {
  const { plan, current, folder } = ground;
  const found: MissingMount[] = [];
  for (const { action, after, volume } of decisions) {
    if (action !== 'keep' || (await present(await realPath(after)))) continue;
    found.push({ after, mountpoint: volume.mountpoint, source: volume.name });
  }
  const stays = isPartial(plan) ? current : undefined;
  return [...found, ...(await missingOthers(ground, decisions, stays ?? newConfig(plan, join(folder, 'rootfs'), decisions)))];
}
