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
  /** A target on another machine gets these options where its schema names them, beside its own: host, port (absent: the
   *  protocol's own), username, password, base (the folder below which its paths lie, '' for the top), encrypt.
   *  @throws PluginError unavailable (retryable), denied, untrusted, not_found (the share or folder that base names) */
  open(context: PluginContext<Options>): Promise<Target>;
  /** For a target whose type was not said: whether the server there is of this plugin's kind. Nothing is sent that could
   *  give a secret away. Throws nothing: a server that does not answer is none. */
  readonly detection?: { readonly port: number; answers(host: string, port: number, signal: AbortSignal): Promise<boolean> };
  /** At first contact: what the server shows of itself, as options to be kept, so that another one in its place is noticed.
   *  @throws PluginError unavailable */
  pin?(context: PluginContext<Options>): Promise<Readonly<Record<string, unknown>>>;
}
export interface RuntimePlugin<Options = unknown> {
  open(context: PluginContext<Options>): Promise<Runtime>;
}
