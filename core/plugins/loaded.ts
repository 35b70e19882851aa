import type { PluginLog, PluginManifest, Runtime, Target, TargetPlugin } from '../contract/index.js';

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
   *  failed (its module cannot be imported or is no plugin, or what it opens lacks a method, which is named), and what its
   *  `open` throws */
  openTarget(id: string, options: unknown, o: PluginOpening): Promise<Target>;
  openRuntime(id: string, options: unknown, o: PluginOpening): Promise<Runtime>;
  manifest(id: string): PluginManifest | undefined;
  /** Names of the options that its schema marks `x-secret`; undefined when there is no such plugin. */
  secretOptions(id: string): readonly string[] | undefined;
  /** Names of all its options; undefined when there is no such plugin, or its schema names none and takes any. */
  optionNames(id: string): readonly string[] | undefined;
  /** @throws ValidationError with pointers into the options; nothing when there is no such plugin */
  checkOptions(id: string, options: unknown): void;
  /** The target plugins that can tell whether a server is of their kind, the lower port first. */
  detections(): Promise<readonly Detection[]>;
  /** What the server shows of itself, to be kept; nothing from a plugin that pins nothing. */
  pin(id: string, options: unknown, o: PluginOpening): Promise<Readonly<Record<string, unknown>>>;
}
export type Detection = { readonly id: string } & NonNullable<TargetPlugin['detection']>;
export interface PluginOpening {
  readonly signal: AbortSignal;
  readonly log: PluginLog;
}
