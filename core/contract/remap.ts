/** What a restore makes otherwise than it was backed up; schemas/jobs/restore.json is what a client may say. A runtime refuses
 *  what it cannot do with `unsupported`, and what the container does not have with `invalid`. */
export interface Remap {
  /** Published port, as `8080` (tcp) or `53/udp`, to another one; 0: the engine chooses. */
  readonly ports?: Readonly<Record<string, number>>;
  /** Hardware addresses; without it a container under another name gets new ones. */
  readonly mac?: 'new' | 'keep';
  /** Volume by its source's name to a folder of the host or an engine's volume, which must be free. */
  readonly volumes?: Readonly<Record<string, string>>;
  /** Ranges of ids, as LXC's own `lxc.idmap` has them; none: not idmapped. The files of all sources go with it. */
  readonly ids?: readonly string[];
  /** Network by its name to another one, whose address is the engine's choice unless it is given here. */
  readonly network?: Readonly<Record<string, { readonly to?: string; readonly address?: string }>>;
}
