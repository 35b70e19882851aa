/** What a restore changes about the container; schemas/jobs/restore.json describes it for clients. A runtime refuses what it cannot
 *  do with `unsupported`, and a name that the container does not have with `invalid`. */
export interface Remap {
  /** Published port, as `8080` (tcp) or `53/udp`, → another one; 0: the engine chooses. */
  readonly ports?: Readonly<Record<string, number>>;
  /** Hardware addresses. When absent, a container under another name gets new ones. */
  readonly mac?: 'new' | 'keep';
  /** Source name of a volume → a folder of the host or a volume of the engine; it must be free. */
  readonly volumes?: Readonly<Record<string, string>>;
  /** Ranges of ids in the form of LXC's `lxc.idmap`; an empty list: no id mapping. The owners of all restored files follow. */
  readonly ids?: readonly string[];
  /** Name of a network → another network. The engine chooses the address unless `address` gives it. */
  readonly network?: Readonly<Record<string, { readonly to?: string; readonly address?: string }>>;
}
