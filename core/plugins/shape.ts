/** Whether what a plugin opened has all that the service calls. It is asked when it is opened, so that nothing that is missing
 *  shows only in the middle of a run. */
import { PluginError, type Runtime, type Target } from '../contract/index.js';

type Named<T> = Exclude<keyof T, 'supports' | symbol>;
/** Names of the methods that an interface requires; one that it gets later has to be named here, or this does not compile. */
type Methods<T> = Readonly<
  Record<{ [Key in Named<T>]-?: T extends Record<Key, (...args: never) => unknown> ? Key : never }[Named<T>], true>
>;
type Abilities<T extends { readonly supports: object }> = Readonly<Record<keyof T['supports'], 'boolean' | 'number'>>;

const targetMethods: Methods<Target> = { get: true, list: true, put: true, remove: true, space: true, stat: true };
const targetAbilities: Abilities<Target> = { atomicReplace: 'boolean', connections: 'number', freeSpace: 'boolean', range: 'boolean' };

const runtimeMethods: Methods<Runtime> = {
  describe: true,
  draft: true,
  dropUndo: true,
  image: true,
  list: true,
  pause: true,
  preview: true,
  recover: true,
  resume: true,
  sources: true,
  undo: true,
  version: true,
};
const runtimeAbilities: Abilities<Runtime> = { images: 'boolean', pause: 'boolean' };

export function isObject(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Names of what is not there, as a plugin's author writes them. */
function missing(value: unknown, methods: object, abilities: Readonly<Record<string, string>>): string[] {
  const opened = isObject(value) ? value : {};
  const supports = isObject(opened.supports) ? opened.supports : {};
  return [
    ...Object.keys(methods).filter((name) => typeof opened[name] !== 'function'),
    ...(typeof opened[Symbol.asyncDispose] === 'function' ? [] : ['[Symbol.asyncDispose]']),
    ...Object.entries(abilities).flatMap(([name, type]) => (typeof supports[name] === type ? [] : [`supports.${name} (${type})`])),
  ];
}

function lacks(id: string, kind: string, names: readonly string[]): PluginError {
  return new PluginError('failed', `what plugin ${id} opened is no ${kind} of contract 1: it lacks ${names.join(', ')}`);
}

const missingOfTarget = (value: unknown) => missing(value, targetMethods, targetAbilities);
const missingOfRuntime = (value: unknown) => missing(value, runtimeMethods, runtimeAbilities);
const isTarget = (value: unknown): value is Target => missingOfTarget(value).length === 0;
const isRuntime = (value: unknown): value is Runtime => missingOfRuntime(value).length === 0;

/** @throws PluginError failed, naming what is missing */
export function checkTarget(id: string, value: unknown): Target {
  if (isTarget(value)) return value;
  throw lacks(id, 'target', missingOfTarget(value));
}

/** @throws PluginError failed, naming what is missing */
export function checkRuntime(id: string, value: unknown): Runtime {
  if (isRuntime(value)) return value;
  throw lacks(id, 'runtime', missingOfRuntime(value));
}
