import type { Entry, ListOptions } from '../../../core/contract/index.js';
import { isPart } from '../../shared/paths.js';
import type { Connection } from './connection.js';
import { explain } from './failure.js';
import type { Named, Sftp } from './protocol/client.js';
import { hasStatus, ifThere, Status } from './protocol/status.js';
import { type Attributes, isFolder, isRegular } from './protocol/wire.js';

/** How many files of a folder are removed at a time, since each takes a round trip. */
const removals = 16;

/** Links are not followed and count as files. */
const entry = (name: string, found: Attributes, o: ListOptions = {}): Entry => ({
  name,
  folder: isFolder(found),
  size: isRegular(found) ? (found.size ?? 0) : 0,
  ...(o.modified && found.modified !== undefined && { modified: found.modified * 1000 }),
});

/** @throws PluginError */
export async function stat(connection: Connection, parts: readonly string[]): Promise<Entry | undefined> {
  const found = await connection.run(parts, (sftp, path) => ifThere(sftp.lstat(path)));
  return found === undefined ? undefined : entry(parts.at(-1) ?? '', found);
}

/** Lists a folder; uploads only on request. @throws PluginError */
export async function* list(connection: Connection, parts: readonly string[], o: ListOptions): AsyncGenerator<Entry> {
  const opened = await connection.run(parts, async (sftp, path) => ({ sftp, handle: await ifThere(sftp.openFolder(path)) }));
  const { sftp, handle } = opened;
  if (handle === undefined) return;
  try {
    for await (const found of entriesOf(sftp, handle)) {
      const name = String(found.name);
      if (isPart(name) && !o.unfinished) continue;
      const known = found.mode === undefined ? await ifThere(sftp.lstat(connection.path([...parts, name]))) : found;
      if (known === undefined) continue; // removed meanwhile
      yield isPart(name) ? { ...entry(name, known), unfinished: true } : entry(name, known, o);
    }
  } catch (error) {
    throw await explain(error, sftp, connection.path(parts));
  } finally {
    sftp.closeHandle(handle).catch(() => undefined);
  }
}

async function* entriesOf(sftp: Sftp, handle: Buffer): AsyncGenerator<Named> {
  for (let some = await sftp.readFolder(handle); some !== undefined; some = await sftp.readFolder(handle))
    for (const found of some) if (!['.', '..'].includes(found.name.toString('latin1'))) yield found;
}

/** Removes a file or a tree. Removes links and never follows them. SFTP cannot sync a folder: after a power cut of the server some
 *  files may be back. @throws PluginError */
export function remove(connection: Connection, parts: readonly string[]): Promise<void> {
  return connection.run(parts, async (sftp, path) => {
    const found = await ifThere(sftp.lstat(path));
    if (found !== undefined) await removeFound(sftp, Buffer.from(path), found);
  });
}

async function removeFound(sftp: Sftp, path: Buffer, found: Attributes): Promise<void> {
  if (!isFolder(found)) {
    await ifThere(sftp.remove(path));
    return;
  }
  for (let tries = 3; ; tries--) {
    await removeContents(sftp, path);
    try {
      await ifThere(sftp.removeFolder(path));
      return;
    } catch (error) {
      // a file came meanwhile, or the server skips entries when it removes while it lists
      if (!hasStatus(error, Status.failure) || tries === 0) throw error;
    }
  }
}

/** Names are bytes: a name that is not UTF-8 must not prevent the removal of its folder. */
async function removeContents(sftp: Sftp, path: Buffer): Promise<void> {
  const handle = await ifThere(sftp.openFolder(path));
  if (handle === undefined) return;
  const names: Named[] = [];
  try {
    for await (const found of entriesOf(sftp, handle)) names.push({ ...found, name: Buffer.from(found.name) });
  } finally {
    sftp.closeHandle(handle).catch(() => undefined);
  }
  const next = async (): Promise<void> => {
    for (let found = names.pop(); found !== undefined; found = names.pop()) {
      const inside = Buffer.concat([path, Buffer.from('/'), found.name]);
      const known = found.mode === undefined ? await ifThere(sftp.lstat(inside)) : found;
      if (known !== undefined) await removeFound(sftp, inside, known);
    }
  };
  await Promise.all(Array.from({ length: removals }, next));
}
