/** How both runtimes list rights over the host. Anybody who can write to a target can write a record. So its texts are escaped,
 *  that none looks like another, and its paths are resolved before they are judged. */
import { readlink, realpath } from 'node:fs/promises';
import { dirname, isAbsolute, join, normalize, relative } from 'node:path';
import type { Grant } from '../../core/contract/index.js';
import { within } from './paths.js';
import { isPathOfRights } from './system-paths.js';

/** The rights sorted by code and text, without duplicates. */
export function sortGrants(found: readonly Grant[]): readonly Grant[] {
  const keyed = new Map(found.map((grant) => [JSON.stringify([grant.code, grant.what]), grant]));
  return [...keyed].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, grant]) => grant);
}

const hidden = /[\\\p{C}\p{Zl}\p{Zp}]/gu;

/** The text with invisible and confusable characters as escapes. Two different texts stay different. */
export function printable(text: string): string {
  return text.replace(hidden, (one) => (one === '\\' ? '\\\\' : `\\u{${one.codePointAt(0)?.toString(16)}}`));
}

/** As printable, in quotes where it could be mistaken for other words. */
export function quote(text: string): string {
  const shown = printable(text);
  return /^[^\s"]+$/.test(shown) ? shown : `"${shown.replaceAll('"', '\\"')}"`;
}

/** A value of a record as JSON, escaped. */
export const showJson = (value: unknown): string => printable(JSON.stringify(value) ?? String(value));

export interface Folders {
  /** Folders whose contents any container may mount … */
  readonly shares: readonly string[];
  /** … except what lies in these: the engine's own. */
  readonly except: readonly string[];
}

const ordinaryCode = 'host_folder';

function codeOf(path: string): string {
  if (/\.sock$/.test(path)) return 'socket';
  if (within(path, '/dev')) return 'device';
  return isPathOfRights(path) ? 'system_path' : ordinaryCode;
}

/** The right to a path of the host that the container has at `mountpoint`; undefined for a path inside a share. */
export async function hostPathGrant(path: string, mountpoint: string, folders: Folders): Promise<Grant | undefined> {
  const clean = normalize(path).replace(/(?<=.)\/+$/, '');
  const isPlain = isAbsolute(path) && !path.split('/').includes('..');
  const real = isPlain ? await leadsTo(clean) : undefined;
  if (real !== undefined && (await isShared(real, folders))) return undefined;
  const isElsewhere = real !== undefined && real !== clean;
  const code = [codeOf(clean), codeOf(real ?? clean)].find((one) => one !== ordinaryCode) ?? ordinaryCode;
  return { code, what: `${quote(clean)}${isElsewhere ? ` (leads to ${quote(real)})` : ''} at ${quote(mountpoint)}` };
}

async function isShared(real: string, { shares, except }: Folders): Promise<boolean> {
  const reals = (folders: readonly string[]) => Promise.all(folders.map(async (folder) => (await leadsTo(folder)) ?? folder));
  const [open, own] = await Promise.all([reals(shares.filter((share) => share !== '/')), reals(except)]);
  return open.some((share) => within(real, share)) && !own.some((folder) => within(real, folder) || within(folder, real));
}

const isLink = (path: string): Promise<boolean> =>
  readlink(path).then(
    () => true,
    () => false,
  );

/** The path with every symlink resolved; of a missing path, the part that exists. undefined for a dangling link and for a path
 *  that cannot be read. */
async function leadsTo(path: string): Promise<string | undefined> {
  for (let there = path; ; there = dirname(there)) {
    try {
      return join(await realpath(there), relative(there, path));
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT') || (await isLink(there))) return undefined;
    }
  }
}
