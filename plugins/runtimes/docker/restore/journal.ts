import { type Journal as Common, Journals } from '../../../shared/swap/index.js';
import type { Client } from '../engine/client.js';
import { flag, text, texts } from '../engine/json.js';

/** What Docker adds to the journal of a restore. */
export interface Own {
  /** '' until it is created, and always when only volumes are restored. */
  newId: string;
  oldId: string;
  oldRunning: boolean;
  /** The old container's restart policy. It is taken away during the swap, because a starting engine would start the container. */
  oldRestart: unknown;
  volumes: string[]; // created by the draft
  networks: string[];
  image: string; // id of the image that the draft loaded
  tags: string[]; // new with that image
}

export type Journal = Common<Own>;

/** Whether the container itself is created anew; else only its volumes are replaced. */
export const isNewContainer = ({ newId, oldId }: Pick<Journal, 'newId' | 'oldId'>): boolean => newId !== '' || oldId === '';

export const temporaryName = ({ container, id }: Journal): string => `${container}.container-backup-${id}`;

/** Name of the old container while it is moved aside. It shows the owner until when (UTC) it is stored. */
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

/** What reverting and finishing a swap needs. */
export interface SwapDeps {
  readonly client: Client;
  readonly journals: Journals<Own>;
  /** Folder of the engine's locks. */
  readonly stateFolder: string;
}
