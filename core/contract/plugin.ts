import type { Runtime } from './runtime.js';
import type { Target } from './target.js';

/** plugin.json. It is checked before any of the plugin's code is imported. */
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

/** Everything that a plugin gets; there are no globals. `options` matches the plugin's options.schema.json. */
export interface PluginContext<Options = unknown> {
  readonly log: PluginLog;
  readonly signal: AbortSignal;
  /** The plugin's own folder, mode 0700. It survives restarts. */
  readonly stateFolder: string;
  readonly options: Options;
}

/** The default export of `main`. Whatever open() acquires, asyncDispose() releases. */
export interface TargetPlugin<Options = unknown> {
  /** A remote target gets these options where its schema names them, beside its own: host, port (absent: the protocol's default),
   *  username, password, base (the folder that its paths are relative to, '' for the top), encrypt.
   *  @throws PluginError unavailable (retryable), denied, untrusted, not_found (no such share or folder as base names) */
  open(context: PluginContext<Options>): Promise<Target>;
  /** Detects whether a server speaks this plugin's protocol, for a target without a type. It must send nothing that reveals a
   *  secret, and never throws: a server that does not answer gives false. */
  readonly detection?: { readonly port: number; answers(host: string, port: number, signal: AbortSignal): Promise<boolean> };
  /** Trust on first use: options that identify the server (its key), stored at first contact so that another server in its place is
   *  refused.
   *  @throws PluginError unavailable */
  pin?(context: PluginContext<Options>): Promise<Readonly<Record<string, unknown>>>;
}
export interface RuntimePlugin<Options = unknown> {
  open(context: PluginContext<Options>): Promise<Runtime>;
}
