import { constants, type FileHandle, mkdir, open, readlink, realpath, rmdir } from 'node:fs/promises';
import { PluginError } from '../../../core/contract/index.js';
import { pathParts } from '../../shared/paths.js';
import { errorCode } from './failure.js';
import { markerName } from './marker.js';

/** An open folder of the share. Names are resolved through its descriptor, as openat does, so that a folder that is swapped for a
 *  link cannot lead a later call out of the share. */
export class Folder implements AsyncDisposable {
  private constructor(readonly handle: FileHandle) {}

  /** @throws as fs.open */
  static async open(path: string | Buffer, flags = 0): Promise<Folder> {
    return new Folder(await open(path, constants.O_RDONLY | constants.O_DIRECTORY | flags));
  }
  /** A path that always means this very folder. */
  get path(): string {
    return `/proc/self/fd/${this.handle.fd}`;
  }
  at(name: string): string {
    return `${this.path}/${name}`;
  }
  /** Its real path, links resolved. */
  real(): Promise<string> {
    return readlink(this.path);
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.handle.close();
  }
}

/** Splits a path of the contract into its parts. @throws PluginError invalid */
export function splitPath(path: string): readonly string[] {
  const parts = pathParts(path);
  if (parts.includes(markerName)) throw new PluginError('invalid', `${markerName} is a name that the share keeps for itself`);
  return parts;
}

/** Opens the folder that `parts` name under the share's root. Undefined when it or a parent is absent or no folder. Follows a link
 *  only inside the share. @throws PluginError invalid */
export async function openFolder(root: string, parts: readonly string[]): Promise<Folder | undefined> {
  const top = await realpath(root);
  let folder = await Folder.open(top);
  for (const part of parts) {
    try {
      const next = await enter(folder, part, top);
      await folder.handle.close();
      folder = next;
    } catch (error) {
      await folder.handle.close();
      if (['ENOENT', 'ENOTDIR'].includes(errorCode(error))) return undefined;
      throw error;
    }
  }
  return folder;
}

/** As openFolder, but makes missing folders durably. `made` counts the last parts that are new. */
export async function makeFolder(root: string, parts: readonly string[]): Promise<{ folder: Folder; made: number }> {
  const top = await realpath(root);
  let folder = await Folder.open(top);
  let made = 0;
  for (const [depth, part] of parts.entries()) {
    try {
      const step = await enterOrMake(folder, part, top);
      await folder.handle.close();
      folder = step.folder;
      made = step.made ? made + 1 : 0;
    } catch (error) {
      await folder.handle.close();
      await unmakeFolders(root, parts.slice(0, depth), made);
      throw error;
    }
  }
  return { folder, made };
}

async function enterOrMake(folder: Folder, part: string, top: string): Promise<{ folder: Folder; made: boolean }> {
  try {
    return { folder: await enter(folder, part, top), made: false };
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
  const made = await mkdir(folder.at(part), 0o755).then(
    () => true,
    (error) => {
      if (errorCode(error) === 'EEXIST') return false; // another put was faster
      throw error;
    },
  );
  await folder.handle.sync();
  try {
    return { folder: await enter(folder, part, top), made };
  } catch (error) {
    // mkdir says EEXIST and open says ENOENT only for a dangling link
    if (!made && errorCode(error) === 'ENOENT') throw new PluginError('invalid', `${part} is a link that leads nowhere; remove it`);
    throw error;
  }
}

/** Opens a subfolder and then reads its real path: the answer holds for the opened folder, whatever changes meanwhile. */
async function enter(folder: Folder, part: string, top: string): Promise<Folder> {
  const next = await Folder.open(folder.at(part));
  const real = await next.real();
  if (top === '/' || real === top || real.startsWith(`${top}/`)) return next;
  await next.handle.close();
  throw new PluginError('invalid', `${part} is a link that leads out of the share; remove it or use another folder`);
}

/** Removes the last `made` folders of `parts`, as far as they are empty, after a put failed. */
export async function unmakeFolders(root: string, parts: readonly string[], made: number): Promise<void> {
  for (let depth = parts.length; depth > parts.length - made; depth--) {
    const name = parts[depth - 1];
    await using parent = await openFolder(root, parts.slice(0, depth - 1));
    if (parent === undefined || name === undefined) return;
    try {
      await rmdir(parent.at(name));
    } catch {
      return; // another put uses it by now
    }
  }
}
