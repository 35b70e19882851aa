/** The contract for plugin authors: a target keeps files, a runtime reads and makes containers, plugin.ts packs and opens both, and
 *  errors.ts lists the error codes. Imports nothing else of the project. */
export * from './errors.js';
export * from './plugin.js';
export * from './remap.js';
export * from './runtime.js';
export * from './signal.js';
export * from './target.js';
