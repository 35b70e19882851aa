import type { PluginLog, PluginManifest, Runtime, Target } from '../contract/index.js';

/** A discovered plugin, good or broken, as GET /plugin/ tells it. */
export interface PluginReport {
  readonly folder: string;
  readonly id: string;
  readonly kind?: 'target' | 'runtime';
  readonly version?: string;
  readonly title?: string;
  readonly capabilities?: readonly string[];
  readonly ok: boolean;
  /** Why it was refused; absent when ok. */
  readonly problem?: string;
}

export interface Plugins {
  readonly reports: readonly PluginReport[];
  /** Has a plugin whose code cannot be used reported as broken from now on. */
  refuse(id: string, problem: string): void;
  /** Imports the plugin's code at the first call, and opens it.
   *  @throws PluginError not_found (no such plugin), invalid (options fail its schema, with the pointer),
   *  failed (its module cannot be imported or is no plugin), and what its `open` throws */
  openTarget(id: string, options: unknown, o: PluginOpening): Promise<Target>;
  openRuntime(id: string, options: unknown, o: PluginOpening): Promise<Runtime>;
  manifest(id: string): PluginManifest | undefined;
  /** Names of the options that its schema marks `x-secret`; undefined when there is no such plugin. */
  secretOptions(id: string): readonly string[] | undefined;
}
export interface PluginOpening {
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}
