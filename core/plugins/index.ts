/** Finds plugins in folders, checks what they say of themselves, and opens them with checked options.
 *  A broken plugin is reported and never stops the service. */

export { loadPlugins } from './load.js';
export type { PluginOpening, PluginReport, Plugins } from './loaded.js';
