import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type PluginContext, PluginError, type Runtime, type Target } from '../contract/index.js';
import { checked, ValidationError } from '../schemas.js';
import { discoverPlugins, type FoundPlugin } from './discover.js';
import type { PluginOpening, PluginReport, Plugins } from './loaded.js';

type Open = (context: PluginContext) => Promise<unknown>;

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isOpen(value: unknown): value is Open {
  return typeof value === 'function';
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return isObject(value) && names.every((name) => typeof value[name] === 'function') && isObject(value.supports);
}
const isTarget = (value: unknown): value is Target => hasMethods(value, ['put', 'get', 'stat', 'list', 'remove', 'space']);
const isRuntime = (value: unknown): value is Runtime =>
  hasMethods(value, [
    'list',
    'describe',
    'sources',
    'image',
    'pause',
    'resume',
    'conflicts',
    'draft',
    'recover',
    'undo',
    'dropUndo',
    'version',
  ]);

/** The module's open function. @throws PluginError failed */
async function imported(plugin: FoundPlugin): Promise<Open> {
  const { id } = plugin.manifest;
  let module: unknown;
  try {
    module = await import(pathToFileURL(plugin.main).href);
  } catch (cause) {
    throw new PluginError('failed', `plugin ${id} cannot be imported: ${cause}`, { cause });
  }
  const exported = isObject(module) ? module.default : undefined;
  const open = isObject(exported) ? exported.open : undefined;
  if (!isOpen(open)) throw new PluginError('failed', `plugin ${id} has no default export with an open function`);
  return open;
}

/** @throws PluginError invalid */
function checkedOptions(plugin: FoundPlugin, options: unknown): unknown {
  try {
    return checked(plugin.optionsSchema, options);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    // By pointer and reason only: a value may be a secret.
    throw new PluginError('invalid', `options of ${plugin.manifest.id}: ${error.message}`);
  }
}

function secretNames({ optionsSchema }: FoundPlugin): string[] {
  const properties = optionsSchema.properties;
  if (!isObject(properties)) return [];
  return Object.entries(properties).flatMap(([name, schema]) => (isObject(schema) && schema['x-secret'] === true ? [name] : []));
}

class LoadedPlugins implements Plugins {
  readonly #opens = new Map<string, Promise<Open>>();
  #reports: readonly PluginReport[];
  constructor(
    private readonly plugins: ReadonlyMap<string, FoundPlugin>,
    reports: readonly PluginReport[],
    private readonly stateFolder: string,
  ) {
    this.#reports = reports;
  }

  get reports() {
    return this.#reports;
  }
  refuse(id: string, problem: string) {
    this.#reports = this.#reports.map((one) => (one.ok && one.id === id ? { ...one, ok: false, problem } : one));
  }
  manifest(id: string) {
    return this.plugins.get(id)?.manifest;
  }
  secretOptions(id: string) {
    const plugin = this.plugins.get(id);
    return plugin && secretNames(plugin);
  }
  async openTarget(id: string, options: unknown, o: PluginOpening): Promise<Target> {
    const opened = await this.#open(id, 'target', options, o);
    if (!isTarget(opened)) throw new PluginError('failed', `what plugin ${id} opened is no target of contract 1`);
    return opened;
  }
  async openRuntime(id: string, options: unknown, o: PluginOpening): Promise<Runtime> {
    const opened = await this.#open(id, 'runtime', options, o);
    if (!isRuntime(opened)) throw new PluginError('failed', `what plugin ${id} opened is no runtime of contract 1`);
    return opened;
  }

  async #open(id: string, kind: 'target' | 'runtime', options: unknown, o: PluginOpening): Promise<unknown> {
    const plugin = this.plugins.get(id);
    if (plugin?.manifest.kind !== kind) throw new PluginError('not_found', `there is no ${kind} plugin ${id}; install it`);
    const good = checkedOptions(plugin, options);
    const opening = this.#opens.get(id) ?? imported(plugin);
    this.#opens.set(id, opening);
    const open = await opening;
    const stateFolder = join(this.stateFolder, 'plugin-state', id);
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    return open({ log: o.log, signal: o.signal, stateFolder, options: good });
  }
}

/** Discovers the plugins of the folders (each holds one folder a plugin). `stateFolder` is the service's. */
export async function loadPlugins(folders: readonly string[], stateFolder: string): Promise<Plugins> {
  const { plugins, reports } = await discoverPlugins(folders);
  return new LoadedPlugins(plugins, reports, stateFolder);
}
