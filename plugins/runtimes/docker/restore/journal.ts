import { type Journal as Common, Journals } from '../../../shared/swap/index.js';
import type { Client } from '../engine/client.js';
import { flag, text, texts } from '../engine/json.js';

/** What Docker adds to the journal of a restore. */
export interface Own {
  /** '' until it is made; it stays so when only volumes are restored. */
  newId: string;
  oldId: string;
  oldRunning: boolean;
  /** Its restart policy, taken from it while it stands aside: an engine that starts would start it. */
  oldRestart: unknown;
  volumes: string[]; // made for it
  networks: string[];
  image: string; // id of the image that it loaded
  tags: string[]; // that came with it
}

export type Journal = Common<Own>;

/** Whether the container itself is made anew; else only what it has mounted is exchanged. */
export const isNewContainer = ({ newId, oldId }: Pick<Journal, 'newId' | 'oldId'>): boolean => newId !== '' || oldId === '';

export const temporaryName = ({ container, id }: Journal): string => `${container}.container-backup-${id}`;

/** Who meets it among the containers sees what it is, and until when it stays (UTC). */
export function oldName({ container, id, undoUntil }: Journal): string {
  const until = undoUntil === 0 ? 'old' : `until-${new Date(undoUntil).toISOString().slice(0, 16).replace(/[-:]/g, '').replace('T', '-')}`;
  return `${container}.container-backup-${until}-${id}`;
}

export const noOwn = (): Own => ({
  newId: '',
  oldId: '',
  oldRunning: false,
  oldRestart: undefined,
  volumes: [],
  networks: [],
  image: '',
  tags: [],
});

/** Docker's journals, in the plugin's folder. */
export function openJournals(folder: string): Journals<Own> {
  return new Journals<Own>(folder, (all) => {
    if (typeof all.newId !== 'string' || typeof all.oldId !== 'string') return undefined;
    const lists = { volumes: [...texts(all.volumes)], networks: [...texts(all.networks)], tags: [...texts(all.tags)] };
    return {
      newId: all.newId,
      oldId: all.oldId,
      oldRunning: flag(all.oldRunning),
      oldRestart: all.oldRestart,
      image: text(all.image),
      ...lists,
    };
  });
}

/** What undoing and finishing a swap needs. */
export interface SwapDeps {
  readonly client: Client;
  readonly journals: Journals<Own>;
  /** Where the engine's locks lie. */
  readonly stateFolder: string;
}
