import { readdir, readFile, realpath, stat } from 'node:fs/promises';
import { basename, join, resolve, sep } from 'node:path';
import type { PluginManifest } from '../contract/index.js';
import { isFields } from '../primitives/guards.js';
import { compiles, parse } from '../schemas.js';
import type { PluginReport } from './loaded.js';

/** A plugin whose description holds; none of its code has run. */
export interface FoundPlugin {
  readonly folder: string;
  readonly manifest: PluginManifest;
  /** Absolute path of the module. */
  readonly main: string;
  readonly optionsSchema: Readonly<Record<string, unknown>>;
}

export interface Discovery {
  /** The service has found them before, in another thread: their schemas are not looked at again. */
  readonly known?: boolean;
}

const manifestLimit = 64 << 10; // a description is small; anything else is a mistake

async function jsonFile(path: string): Promise<unknown> {
  if ((await stat(path)).size > manifestLimit) throw new Error(`${basename(path)} is larger than ${manifestLimit} bytes`);
  return JSON.parse(await readFile(path, 'utf8'));
}

async function readPlugin(folder: string, { known }: Discovery): Promise<FoundPlugin> {
  const manifest = parse('plugin', await jsonFile(join(folder, 'plugin.json')));
  const optionsSchema = await jsonFile(join(folder, 'options.schema.json'));
  if (!isFields(optionsSchema)) throw new Error('options.schema.json is not an object');
  if (!known) compiles(optionsSchema);
  const home = await realpath(folder);
  const main = await realpath(resolve(home, manifest.main));
  if (!main.startsWith(home + sep)) throw new Error('main lies outside the plugin');
  return { folder, main, manifest, optionsSchema };
}

/** Folders that hold a plugin.json, below the given ones; an absent one holds none. */
async function pluginFolders(tops: readonly string[]): Promise<string[]> {
  const folders: string[] = [];
  for (const top of tops) {
    const names = await readdir(top).catch(() => []);
    for (const name of names.sort()) {
      const there = await stat(join(top, name, 'plugin.json')).catch(() => undefined);
      if (there !== undefined) folders.push(join(top, name));
    }
  }
  return folders;
}

/** All plugins below the folders: the first of an id counts, so that nobody can take a built-in one's place. */
export async function discoverPlugins(
  tops: readonly string[],
  o: Discovery,
): Promise<{ plugins: Map<string, FoundPlugin>; reports: PluginReport[] }> {
  const plugins = new Map<string, FoundPlugin>();
  const reports: PluginReport[] = [];
  for (const folder of await pluginFolders(tops)) {
    try {
      const plugin = await readPlugin(folder, o);
      const { id, kind, version, title, capabilities } = plugin.manifest;
      const other = plugins.get(id);
      if (other !== undefined) throw new Error(`its id ${id} is taken by ${other.folder}; choose another`);
      plugins.set(id, plugin);
      reports.push({ folder, id, kind, version, title, capabilities, ok: true });
    } catch (error) {
      reports.push({ folder, id: basename(folder), ok: false, problem: error instanceof Error ? error.message : String(error) });
    }
  }
  return { plugins, reports };
}
