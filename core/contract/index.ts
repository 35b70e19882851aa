/** What a plugin author reads: a target keeps files, a runtime names what makes up a container,
 *  plugin.ts says how either is packed and opened, errors.ts what may go wrong. Imports nothing of the project. */
export * from './errors.js';
export * from './plugin.js';
export * from './remap.js';
export * from './runtime.js';
export * from './signal.js';
export * from './target.js';
