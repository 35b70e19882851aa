import { type Entry, PluginError } from '../../../core/contract/index.js';
import { pattern } from './filters.js';
import type { RemoteFolder } from './folder.js';
import { anyMarker, ofGeneration, suffix } from './pieces.js';

/** @throws PluginError */
export async function stat(remote: RemoteFolder, parts: readonly string[], signal: AbortSignal): Promise<Entry | undefined> {
  const name = parts.at(-1);
  if (name === undefined) return { name: '', folder: true, size: 0 };
  const { plain, pieces } = await remote.look(parts, signal);
  if (plain !== undefined) return { name, folder: plain.kind === 'folder', size: plain.size };
  return pieces?.whole === undefined ? undefined : { name, folder: false, size: pieces.whole.bytes };
}

/** Removes a file, whole or in pieces, or a tree. @throws PluginError */
export async function remove(remote: RemoteFolder, parts: readonly string[], signal: AbortSignal): Promise<void> {
  const { plain, pieces } = await remote.look(parts, signal);
  if (pieces?.whole !== undefined) await removePieces(remote, parts, signal);
  if (plain === undefined) return;
  await remote.remove(parts.slice(0, -1), [pattern(parts), pattern(parts, '/**')], signal);
  // rsync reports a file that it cannot remove, but keeps a folder silently if files stay or come anew
  if (plain.kind !== 'folder' || (await remote.look(parts, signal)).plain === undefined) return;
  throw new PluginError('in_use', `${parts.join('/')} could not be removed: something is being written there, or may not be removed`);
}

/** Removes the pieces of a file, except those of the generation `but`. Removes the markers first, so that the file never exists in
 *  part. */
export async function removePieces(remote: RemoteFolder, parts: readonly string[], signal: AbortSignal, but?: number): Promise<void> {
  const folder = [...parts.slice(0, -1), `${parts.at(-1)}${suffix}`];
  const kept = but === undefined ? [] : ofGeneration(but).map((name) => pattern(folder, `/${name}`));
  await remote.remove(folder, [pattern(folder, `/${anyMarker}`)], signal, kept);
  const rest = but === undefined ? [pattern(folder), pattern(folder, '/**')] : [pattern(folder, '/*')];
  await remote.remove(but === undefined ? folder.slice(0, -1) : folder, rest, signal, kept);
}
