import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type PluginContext, PluginError, type Runtime, type Target, type TargetPlugin } from '../contract/index.js';
import { check, ValidationError } from '../schemas.js';
import { type Discovery, discoverPlugins, type FoundPlugin } from './discover.js';
import type { Detection, PluginOpening, PluginReport, Plugins } from './loaded.js';
import { checkRuntime, checkTarget, isObject } from './shape.js';

type Open = (context: PluginContext) => Promise<unknown>;
/** What a plugin's module gives: what is not there is undefined. */
interface Exported {
  readonly open: Open;
  readonly pin: Open | undefined;
  readonly detection: TargetPlugin['detection'] | undefined;
}

function isOpen(value: unknown): value is Open {
  return typeof value === 'function';
}

const isDetection = (value: unknown): value is NonNullable<TargetPlugin['detection']> =>
  isObject(value) && typeof value.port === 'number' && typeof value.answers === 'function';

/** @throws PluginError failed */
async function importPlugin(plugin: FoundPlugin): Promise<Exported> {
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
  const { pin, detection } = isObject(exported) ? exported : {};
  return { open, pin: isOpen(pin) ? pin : undefined, detection: isDetection(detection) ? detection : undefined };
}

/** @throws PluginError invalid */
function checkOptions(plugin: FoundPlugin, options: unknown): unknown {
  try {
    return check(plugin.optionsSchema, options);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    // By pointer and reason only: a value may be a secret.
    throw new PluginError('invalid', `options of ${plugin.manifest.id}: ${error.message}`);
  }
}

function propertiesOf({ optionsSchema }: FoundPlugin): Record<string, unknown> | undefined {
  return isObject(optionsSchema.properties) ? optionsSchema.properties : undefined;
}

function secretNames(plugin: FoundPlugin): string[] {
  return Object.entries(propertiesOf(plugin) ?? {}).flatMap(([name, schema]) =>
    isObject(schema) && schema['x-secret'] === true ? [name] : [],
  );
}

class LoadedPlugins implements Plugins {
  readonly #modules = new Map<string, Promise<Exported>>();
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
    return checkTarget(id, await this.#open(id, 'target', options, o));
  }
  async openRuntime(id: string, options: unknown, o: PluginOpening): Promise<Runtime> {
    return checkRuntime(id, await this.#open(id, 'runtime', options, o));
  }

  optionNames(id: string) {
    const plugin = this.plugins.get(id);
    const properties = plugin && propertiesOf(plugin);
    return properties && Object.keys(properties);
  }
  checkOptions(id: string, options: unknown): void {
    const plugin = this.plugins.get(id);
    if (plugin) check(plugin.optionsSchema, options);
  }
  async detections(): Promise<readonly Detection[]> {
    const found: Detection[] = [];
    for (const plugin of this.plugins.values()) {
      if (plugin.manifest.kind !== 'target') continue;
      const { detection } = await this.#module(plugin).catch(() => ({ detection: undefined })); // told when it is used
      if (detection) found.push({ id: plugin.manifest.id, port: detection.port, answers: detection.answers.bind(detection) });
    }
    return found.sort((a, b) => a.port - b.port);
  }
  async pin(id: string, options: unknown, o: PluginOpening): Promise<Readonly<Record<string, unknown>>> {
    const plugin = this.#plugin(id, 'target');
    const { pin } = await this.#module(plugin);
    if (pin === undefined) return {};
    const kept = await pin(await this.#context(plugin, options, o));
    return isObject(kept) ? kept : {};
  }

  #plugin(id: string, kind: 'target' | 'runtime'): FoundPlugin {
    const plugin = this.plugins.get(id);
    if (plugin?.manifest.kind !== kind) throw new PluginError('not_found', `there is no ${kind} plugin ${id}; install it`);
    return plugin;
  }
  #module(plugin: FoundPlugin): Promise<Exported> {
    const { id } = plugin.manifest;
    const module = this.#modules.get(id) ?? importPlugin(plugin);
    this.#modules.set(id, module);
    return module;
  }
  async #context(plugin: FoundPlugin, options: unknown, o: PluginOpening): Promise<PluginContext> {
    const good = checkOptions(plugin, options);
    const stateFolder = join(this.stateFolder, 'plugin-state', plugin.manifest.id);
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    return { log: o.log, signal: o.signal, stateFolder, options: good };
  }
  async #open(id: string, kind: 'target' | 'runtime', options: unknown, o: PluginOpening): Promise<unknown> {
    const plugin = this.#plugin(id, kind);
    const context = await this.#context(plugin, options, o);
    return (await this.#module(plugin)).open(context);
  }
}

/** Discovers the plugins of the folders (each holds one folder a plugin). `stateFolder` is the service's. */
export async function loadPlugins(folders: readonly string[], stateFolder: string, o: Discovery = {}): Promise<Plugins> {
  const { plugins, reports } = await discoverPlugins(folders, o);
  return new LoadedPlugins(plugins, reports, stateFolder);
}
