import type { Runtime } from './runtime.js';
import type { Target } from './target.js';

/** plugin.json. Checked before any of the plugin's code is imported. */
export interface PluginManifest {
  readonly id: string; // [a-z][a-z0-9-]{0,31}
  readonly kind: 'target' | 'runtime';
  readonly contract: 1;
  readonly version: string;
  readonly main: string; // relative, inside the plugin's folder
  readonly title: string;
  readonly capabilities: readonly string[];
}

export type PluginLog = (level: 'debug' | 'info' | 'warn' | 'error', message: string, detail?: Readonly<Record<string, unknown>>) => void;

/** All that a plugin gets; there are no globals. `options` has passed the plugin's options.schema.json. */
export interface PluginContext<Options = unknown> {
  readonly log: PluginLog;
  readonly signal: AbortSignal;
  /** A folder of the plugin's own, 0700, kept over restarts. */
  readonly stateFolder: string;
  readonly options: Options;
}

/** What `main` exports as default. `open` costs nothing that dispose does not give back. */
export interface TargetPlugin<Options = unknown> {
  open(context: PluginContext<Options>): Promise<Target>;
}
export interface RuntimePlugin<Options = unknown> {
  open(context: PluginContext<Options>): Promise<Runtime>;
}
