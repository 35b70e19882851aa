/** Whether what a plugin opened has all that the service calls. It is asked when it is opened, so that nothing that is missing
 *  shows only in the middle of a run. */
import { type NameRules, PluginError, type Runtime, type Target } from '../contract/index.js';

type Named<T> = Exclude<keyof T, 'supports' | symbol>;
/** Names of the methods that an interface requires; one that it gets later has to be named here, or this does not compile. */
type Methods<T> = Readonly<
  Record<{ [Key in Named<T>]-?: T extends Record<Key, (...args: never) => unknown> ? Key : never }[Named<T>], true>
>;
type RequiredKeys<T> = { [Key in keyof T]-?: undefined extends T[Key] ? never : Key }[keyof T];
type Types<T> = Readonly<Record<RequiredKeys<T>, 'boolean' | 'number' | 'string'>>;

const targetMethods: Methods<Target> = { get: true, list: true, put: true, remove: true, space: true, stat: true };
const targetAbilities: Types<Target['supports']> = {
  atomicReplace: 'boolean',
  connections: 'number',
  freeSpace: 'boolean',
  range: 'boolean',
};
const nameRules: Types<NameRules> = { caseSensitive: 'boolean', longest: 'number', refused: 'string', refusedAtEnd: 'string' };

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
const runtimeAbilities: Types<Runtime['supports']> = { images: 'boolean', pause: 'boolean' };

export function isObject(value: unknown): value is Record<PropertyKey, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Names of the values that are not of their type, as a plugin's author writes them. */
function mistyped(value: unknown, types: Readonly<Record<string, string>>, name: string): string[] {
  const fields = isObject(value) ? value : {};
  return Object.entries(types).flatMap(([key, type]) => (typeof fields[key] === type ? [] : [`${name}.${key} (${type})`]));
}

/** Names of what is not there, as a plugin's author writes them. */
function missing(value: unknown, methods: object, abilities: Readonly<Record<string, string>>): string[] {
  const opened = isObject(value) ? value : {};
  return [
    ...Object.keys(methods).filter((name) => typeof opened[name] !== 'function'),
    ...(typeof opened[Symbol.asyncDispose] === 'function' ? [] : ['[Symbol.asyncDispose]']),
    ...mistyped(opened.supports, abilities, 'supports'),
  ];
}

/** Names may be absent: targets that were written before there were any say nothing of them. */
function missingOfTarget(value: unknown): string[] {
  const supports = isObject(value) && isObject(value.supports) ? value.supports : {};
  const ofNames = supports.names === undefined ? [] : mistyped(supports.names, nameRules, 'supports.names');
  return [...missing(value, targetMethods, targetAbilities), ...ofNames];
}

/** What a plugin says it supports, for good: what was asked once holds until it is closed. */
function freeze<T extends { readonly supports: object }>(opened: T): T {
  for (const value of Object.values(opened.supports)) Object.freeze(value);
  Object.freeze(opened.supports);
  return opened;
}

function lacks(id: string, kind: string, names: readonly string[]): PluginError {
  return new PluginError('failed', `what plugin ${id} opened is no ${kind} of contract 1: it lacks ${names.join(', ')}`);
}

const missingOfRuntime = (value: unknown) => missing(value, runtimeMethods, runtimeAbilities);
const isTarget = (value: unknown): value is Target => missingOfTarget(value).length === 0;
const isRuntime = (value: unknown): value is Runtime => missingOfRuntime(value).length === 0;

/** The target, with its `supports` frozen. @throws PluginError failed, naming what is missing */
export function checkTarget(id: string, value: unknown): Target {
  if (isTarget(value)) return freeze(value);
  throw lacks(id, 'target', missingOfTarget(value));
}

/** The runtime, with its `supports` frozen. @throws PluginError failed, naming what is missing */
export function checkRuntime(id: string, value: unknown): Runtime {
  if (isRuntime(value)) return freeze(value);
  throw lacks(id, 'runtime', missingOfRuntime(value));
}
